"""What both doors of the zone have in common, the REST API and the portal: how HTTP is spoken here.

uvicorn in our own loop, TLS, the documented envelope and paths, bodies and streams. It knows no route: those
belong to `services/gateway` and `services/portal`.
"""
