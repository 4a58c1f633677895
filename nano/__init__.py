"""Nano: a private cloud for small teams. What every service stands on; it imports no service."""
