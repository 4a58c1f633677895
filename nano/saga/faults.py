"""What an error of a step comes to: a fault that is stored and sent."""

import secrets

import structlog

from nano.model.errors import Internal, NanoError
from nano.model.task import Fault, fault_of

_log = structlog.get_logger(__name__)


def defect(error: Exception, *, task: str, step: str) -> Fault:
    """Log an error that nobody expected, once, under an id that the fault carries."""
    log_id = secrets.token_hex(4)
    _log.error("saga.defect", log_id=log_id, task=task, step=step, exc_info=error)
    return Fault(
        Internal.code,
        f"step {step} failed by a defect ({type(error).__name__}): see log entry {log_id}",
        subject=log_id,
    )


def fault_from(error: Exception, *, task: str, step: str) -> Fault:
    """What any error of a step comes to: an expected one as it is, any other as a defect."""
    return fault_of(error) if isinstance(error, NanoError) else defect(error, task=task, step=step)
