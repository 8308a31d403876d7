"""What MeshConfig says about telemetry."""

from __future__ import annotations

from isthmus.ingest.telemetry_providers import telemetry_defaults_of
from isthmus.model.telemetry import TelemetryDefaults


def test_a_mesh_without_mesh_config_has_the_same_provider_as_one_whose_mesh_config_is_silent():
    assert telemetry_defaults_of({}) == (TelemetryDefaults(), ())
