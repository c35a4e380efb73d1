variable "project" {
  description = "Id of the Google Cloud project."
  type        = string
}

variable "region" {
  description = "Where it runs, such as europe-west1."
  type        = string
}

variable "name" {
  description = "Begins the name of everything that is made."
  type        = string
  default     = "pixelmill"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,17}$", var.name))
    error_message = "2 to 18 small letters, digits and '-', the first a letter: it becomes part of account ids."
  }
}

variable "image" {
  description = "The image built with --target full, in Artifact Registry; better by @sha256 than by tag."
  type        = string
}

variable "pipeline" {
  description = "What is run over uploads, in the text form."
  type        = string
  default     = "grayscale/resize:256,256,fit=fill/format:jpeg,quality=80"
}

variable "input_prefix" {
  description = "Only objects whose name begins so are taken."
  type        = string
  default     = ""
}

variable "output_name" {
  description = "Template of the names of results; empty is the function's own default."
  type        = string
  default     = ""
}

variable "cpu" {
  description = "Cores of an instance, which is also how many images it works on at once: 1, 2, 4 or 8."
  type        = number
  default     = 2
  validation {
    condition     = contains([1, 2, 4, 8], var.cpu)
    error_message = "1, 2, 4 or 8."
  }
}

variable "memory" {
  description = "Memory of an instance; each core's process may take 1 GB by itself."
  type        = string
  default     = "4Gi"
}

variable "timeout_s" {
  description = "Limit of one request in seconds; the same number belongs into the [[overflow]] target."
  type        = number
  default     = 75
}

variable "max_instances" {
  description = "Instances of the overflow service, at most: what bounds its cost."
  type        = number
  default     = 10
}

variable "max_event_instances" {
  description = "Instances of the service that works on uploads, at most."
  type        = number
  default     = 5
}

variable "hub_account" {
  description = "E-mail of the service account under which the hub runs; empty makes one."
  type        = string
  default     = ""
}

variable "old_version_days" {
  description = "How long overwritten and deleted objects can be brought back."
  type        = number
  default     = 7
}

variable "alarm_email" {
  description = "Hears of uploads that failed for good; empty for nobody."
  type        = string
  default     = ""
}
