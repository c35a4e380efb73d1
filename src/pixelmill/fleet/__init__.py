"""Who runs what where: load samples, gates, the dispatcher that owns every slot."""
