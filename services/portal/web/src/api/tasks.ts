// `tasks/`: what goes on and what went on. Shape: nano/model/task.py.

import { call } from './http';

export type TaskState = 'running' | 'undoing' | 'stuck' | 'done' | 'failed' | 'cancelled';

export interface Fault {
  code: string;
  message: string;
  field: string;
  subject: string;
}

export interface Task {
  id: string;
  /** The saga's name: `create_instance`. */
  kind: string;
  /** The id of what it works on. */
  subject: string;
  /** What that was called when the task began, `<group>.<name>`; it may be gone by now. */
  name: string;
  state: TaskState;
  /** The step under way, or the last one. */
  step: string;
  step_index: number;
  step_count: number;
  /** Measured. */
  progress_percent: number;
  /** It has not passed the step after which it only goes forward. */
  cancellable: boolean;
  created_ms: number;
  /** 0 while it runs. */
  ended_ms: number;
  error: Fault | null;
}

export interface TaskPage {
  /** The newest first. */
  tasks: Task[];
  total: number;
}

export async function listTasks(limit: number): Promise<TaskPage> {
  return (await call<TaskPage>('GET', 'tasks/', { query: { limit } })).data;
}

export async function listTasksOf(subject: string, limit: number): Promise<TaskPage> {
  return (await call<TaskPage>('GET', 'tasks/', { query: { subject, limit } })).data;
}

/** 409 when it has passed its pivot. */
export async function cancelTask(id: string): Promise<void> {
  await call<string>('DELETE', `tasks/${id}`);
}

export function hasEnded(task: Pick<Task, 'state'>): boolean {
  return task.state === 'done' || task.state === 'failed' || task.state === 'cancelled';
}
