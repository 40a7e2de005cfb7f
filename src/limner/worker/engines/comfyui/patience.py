"""How long the adapter waits for what. One place for all of it, in seconds; tests wait shorter."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """What ends a wait, and how often it is looked meanwhile."""

    refused: float = 2.0  # nobody listens at the instance's port: its prompt is lost
    unreachable: float = 30.0  # no connection, or a proxy's error
    frozen: float = 120.0  # it takes requests and does not answer, as while it loads a model, and no event comes either
    absent: float = 2.0  # the prompt is neither in the queue nor in the history ...
    absent_looks: int = 3  # ... as often as this
    late: float = 10.0  # the prompt is over, and its history entry is not there
    deaf: float = 60.0  # it was told to stop, and nobody can restart the instance
    stop_again: float = 0.5
    quiet: float = 5.0  # nothing was heard for so long: look
    look: float = 0.25  # the first pause between looks while the socket is broken; it doubles ...
    look_longest: float = 2.0
    quiet_longest: float = 10.0  # ... and so does the pause between looks at a silent instance
    rejoin: float = 15.0  # a socket that was opened anew is silent: perhaps the instance forgot it
    rejoin_longest: float = 60.0
    submit_pause: float = 1.0
    restart: float = 15.0  # how long an instance that is to be restarted may take to go down
    leftovers: float = 120.0  # an earlier supervisor's run that nobody takes up again is stopped after this
    idle_look: float = 5.0
    models_every: float = 60.0
    catalogue_every: float = 600.0
