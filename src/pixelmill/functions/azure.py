"""Azure Functions (Python, programming model v2): a trigger of Event Grid and one of a storage queue.

``function_app.py`` of a deployment is two lines::

    from pixelmill.functions.azure import function_app

    app = function_app()

Neither trigger is told twice: Event Grid and the queue send again what raised (a queue five times, then to
``NAME-poison``).
"""

from __future__ import annotations

from pixelmill.errors import MissingExtra
from pixelmill.functions import lean
from pixelmill.functions.plain import do_all

try:
    import azure.functions as func
except ImportError as error:
    raise MissingExtra('Azure Functions needs azure-functions: pip install "pixelmill[azure-functions]".') from error

QUEUE = "uploads"
CONNECTION = "AzureWebJobsStorage"


def event_grid(event: func.EventGridEvent) -> None:
    """One event of Blob Storage; raises what is to be tried again."""
    at = event.event_time
    do_all(
        {
            "id": event.id,
            "topic": event.topic,
            "subject": event.subject,
            "eventType": event.event_type,
            "eventTime": None if at is None else at.isoformat(),
            "data": event.get_json(),
            "dataVersion": event.data_version,
        }
    )


def queue(message: func.QueueMessage) -> None:
    """One message with events of any provider; raises what is to be tried again, and what nobody can read."""
    do_all(message.get_body(), keeps=True)


def function_app(queue_name: str = QUEUE, connection: str = CONNECTION) -> func.FunctionApp:
    """The app with both triggers; ``connection`` names the setting with the queue's storage account."""
    app = func.FunctionApp()
    grid = app.event_grid_trigger(arg_name="event")(event_grid)
    app.function_name("event_grid")(grid)
    messages = app.queue_trigger(arg_name="message", queue_name=queue_name, connection=connection)(queue)
    app.function_name("queue")(messages)
    return app


lean.started()
