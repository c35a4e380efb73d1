"""The app that Azure Functions looks for: one trigger of Event Grid, one of the storage queue `uploads`."""

from pixelmill.functions.azure import function_app

app = function_app()
