"""Tasks: what spans several books, made whole or taken back.

- `step.py`: what a task file says: steps, their way back, the saga and its pivot.
- `record.py`, `tasks.py`, `claims.py`, `journal.py`: what is written of a task, and what follows. Pure.
- `engine.py`, `mover.py`, `couriers.py`, `lanes.py`, `timers.py`: the runner.
- `outcomes.py`, `callee.py`, `handlers.py`, `jobs.py`, `listeners.py`: the side that acts.
- `callees.py`, `targets.py`, `faults.py`: the words between the two.
"""
