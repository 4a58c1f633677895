"""How somebody comes into the zone.

- `enrolment.py`, `local_socket.py`: a service on the scheduler's own host.
- `join_token.py`, `short_code.py`: what a person carries from one host to another, or compares.
- `applicant.py`, `application.py`, `schedulers.py`: the side that asks.
- `applicants.py`: the links of those who ask, at the side that lets them in.
"""
