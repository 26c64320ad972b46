"""What the claims in Python share: numbers, and the report that tests/clients/run reads."""

import os
import random
import sys

PATIENCE_SECS = 20
SUBSCRIBERS, PUBLISHERS = 8, 2
MESSAGES = 20
MEGABYTE = random.Random(1).randbytes(1 << 20)

SESSION_TAKEN_OVER = 0x8E
BAD_AUTHENTICATION_METHOD = 0x8C
NO_MATCHING_SUBSCRIBERS = 0x10
NO_SUBSCRIPTION_EXISTED = 0x11


def topics(client):
    """Gives each claim and version a topic of its own."""
    return lambda claim, version: f"clients/{client}/{os.getpid()}/{claim.__name__}/{version}"


def equal(what, got, wanted):
    assert got == wanted, f"{what}: got {got!r}, not {wanted!r}"


def report(client, claims, holds):
    """A line for each claim that holds, and the others on standard error. `claims` is those of each version."""
    failed = False
    for version, of_version in claims.items():
        for claim in of_version:
            try:
                holds(claim, version)
            except Exception as error:  # whatever a client raises is a claim that does not hold
                failed = True
                print(f"{client}: {version} {claim.__name__}: {error!r}", file=sys.stderr, flush=True)
            else:
                print(version, claim.__name__, flush=True)
    sys.exit(1 if failed else 0)
