variable "subscription_id" {
  description = "Id of the Azure subscription."
  type        = string
}

variable "location" {
  description = "Where it runs, such as westeurope."
  type        = string
}

variable "name" {
  description = "Begins the name of everything that is made."
  type        = string
  default     = "pixelmill"
  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,15}$", var.name))
    error_message = "2 to 16 small letters and digits, the first a letter: it becomes the name of a storage account."
  }
}

variable "image" {
  description = "The image built with --target full; better by @sha256 than by tag."
  type        = string
}

variable "registry_id" {
  description = "Resource id of the Azure Container Registry that holds the image; empty for a registry that asks nobody."
  type        = string
  default     = ""
}

variable "registry_server" {
  description = "Host name of that registry, such as myregistry.azurecr.io."
  type        = string
  default     = ""
}

variable "database_url" {
  description = "PostgreSQL of the service: postgresql://USER:PASSWORD@HOST/DATABASE?sslmode=require."
  type        = string
  sensitive   = true
}

variable "overflow_token" {
  description = "What callers of the overflow container must show; `openssl rand -hex 32` makes one. It is also the hub's."
  type        = string
  sensitive   = true
  validation {
    condition     = length(var.overflow_token) >= 32
    error_message = "At least 32 characters."
  }
}

variable "pipeline" {
  description = "What is run over uploads, in the text form."
  type        = string
  default     = "grayscale/resize:256,256,fit=fill/format:jpeg,quality=80"
}

variable "output_name" {
  description = "Template of the names of results, below the container `output`."
  type        = string
  default     = "{stem}.{ext}"
}

variable "input_prefix" {
  description = "Only blobs whose name begins so are taken."
  type        = string
  default     = ""
}

variable "max_workers" {
  description = "Replicas of the worker, at most."
  type        = number
  default     = 10
}

variable "max_overflow" {
  description = "Replicas of the overflow container, at most: what bounds its cost."
  type        = number
  default     = 10
}

variable "reachable_from" {
  description = "Networks (CIDR) that may reach the service; empty lets all, who then need a token."
  type        = list(string)
  default     = []
}

variable "log_days" {
  description = "How long logs are kept; 30 at least."
  type        = number
  default     = 30
}

variable "deleted_days" {
  description = "How long deleted blobs can be brought back."
  type        = number
  default     = 7
}
