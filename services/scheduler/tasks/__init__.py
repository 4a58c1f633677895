"""Every task that changes more than one book: one file, one story, each step with its way back."""

from services.scheduler.tasks.create_instance import CREATE_INSTANCE
from services.scheduler.tasks.delete_instance import DELETE_INSTANCE
from services.scheduler.tasks.forget_instance import FORGET_INSTANCE
from services.scheduler.tasks.start_instance import START_INSTANCE
from services.scheduler.tasks.stop_instance import REBOOT_INSTANCE, STOP_INSTANCE
from services.scheduler.tasks.switch_off_forgotten import SWITCH_OFF_FORGOTTEN

SAGAS = (
    CREATE_INSTANCE,
    START_INSTANCE,
    STOP_INSTANCE,
    REBOOT_INSTANCE,
    DELETE_INSTANCE,
    FORGET_INSTANCE,
    SWITCH_OFF_FORGOTTEN,
)
"""All that the engine must know: a task that was begun is told to its end after any restart."""
