"""Functions: work that a cloud starts for each event, with nothing between the event and the result.

No job, no queue, no database: an event is read, its object fetched, run and written under the name that the rule gives,
and the same event again writes the same bytes under the same name. ``work`` is what all of them do; ``aws``, ``google``
and ``azure`` are how each cloud calls it. A cold start pays for every import, so each loads only what its call needs.
"""
