output "storage_account" {
  description = "Upload to its container `input`; results appear in `output`."
  value       = azurerm_storage_account.this.name
}

output "service_url" {
  description = "The service: REST and pages."
  value       = "https://${azurerm_container_app.service.ingress[0].fqdn}"
}

output "overflow_url" {
  description = "The url of the [[overflow]] target, with auth = \"bearer\" and the token that you chose."
  value       = "https://${azurerm_container_app.overflow.ingress[0].fqdn}"
}
