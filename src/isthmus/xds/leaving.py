"""What an agent says before its proxy goes to a control plane that it prefers: a request of a type that nobody answers.

An Envoy stays with the control plane that it is connected to, and cannot be told to look for a better one: so the one that is left ends its stream.
"""

from __future__ import annotations

LEAVING = "type.googleapis.com/isthmus.v1.Leaving"
