// `templates/`: which devices a kind of guest system gets. Shape: services/gateway/routes/templates.py.

import { call } from './http';

export interface Template {
  id: string;
  name: string;
  operating_system: string;
}

export async function listTemplates(): Promise<Template[]> {
  return (await call<Template[] | null>('GET', 'templates/')).data ?? [];
}
