# Uploads → Event Grid → the queue `uploads`, which the service reads.
resource "azurerm_eventgrid_system_topic" "uploads" {
  name                = "${var.name}-uploads"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  source_resource_id  = azurerm_storage_account.this.id
  topic_type          = "Microsoft.Storage.StorageAccounts"
  identity {
    type = "SystemAssigned"
  }
}

resource "azurerm_role_assignment" "topic_tells" {
  scope                = azurerm_storage_queue.uploads.id
  role_definition_name = "Storage Queue Data Message Sender"
  principal_id         = azurerm_eventgrid_system_topic.uploads.identity[0].principal_id
}

resource "azurerm_role_assignment" "topic_keeps_dead" {
  scope                = azurerm_storage_container.containers["dead"].id
  role_definition_name = "Storage Blob Data Contributor"
  principal_id         = azurerm_eventgrid_system_topic.uploads.identity[0].principal_id
}

resource "azurerm_eventgrid_system_topic_event_subscription" "uploads" {
  name                  = "${var.name}-uploads"
  resource_group_name   = azurerm_resource_group.this.name
  system_topic          = azurerm_eventgrid_system_topic.uploads.name
  event_delivery_schema = "CloudEventSchemaV1_0"
  included_event_types  = ["Microsoft.Storage.BlobCreated"]
  subject_filter {
    subject_begins_with = "/blobServices/default/containers/input/blobs/${var.input_prefix}"
    case_sensitive      = true
  }
  storage_queue_endpoint {
    storage_account_id                    = azurerm_storage_account.this.id
    queue_name                            = azurerm_storage_queue.uploads.name
    queue_message_time_to_live_in_seconds = 604800
  }
  retry_policy {
    event_time_to_live    = 1440
    max_delivery_attempts = 30
  }
  storage_blob_dead_letter_destination {
    storage_account_id          = azurerm_storage_account.this.id
    storage_blob_container_name = "dead"
  }
  delivery_identity {
    type = "SystemAssigned"
  }
  dead_letter_identity {
    type = "SystemAssigned"
  }
  depends_on = [azurerm_role_assignment.topic_tells, azurerm_role_assignment.topic_keeps_dead]
}
