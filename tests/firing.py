"""For each alert, series by the minute that make it fire, and some that nearly do."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """What Prometheus has scraped, in promtool's notation, and what fires after so many minutes."""

    alert: str
    about: str
    series: dict[str, str]
    minutes: int
    fires: tuple[dict[str, str], ...] = ()


A, B = 'job="heads",instance="a"', 'job="heads",instance="b"'
HEADS, ON_A = {"job": "heads"}, {"job": "heads", "instance": "a"}
GAP_ON_A = ON_A | {"head": "gap"}


def requests(status, rate, route="/predict"):
    """So many requests a minute on instance a; at least one a second are answered with 200."""
    name = f'resnet_heads_requests_total{{{A},route="%s",status="%s"}}'
    return {name % (route, status): f"0+{rate}x30", name % ("/predict", "200"): "0+1000x30"}


def refusals(reason, rate):
    """The same, refused for a reason."""
    return {f'resnet_heads_refusals_total{{{A},reason="{reason}"}}': f"0+{rate}x30"}


def totals(late, stage="total", deadline=10, rate=100):
    """Of so many a minute, so many take between 80 and 100 % of the deadline."""
    name = f'resnet_heads_stage_seconds_bucket{{{A},stage="{stage}",le="%s"}}'
    bounds = {f"{0.8 * deadline}": rate - late, f"{float(deadline)}": rate, "+Inf": rate}
    counts = {name % bound: f"0+{count}x30" for bound, count in bounds.items()}
    return counts | {f"resnet_heads_request_timeout_seconds{{{A}}}": f"{deadline}x30"}


def pending(values, of=64):
    return bounded("pending_images", values, "max_queued_images", of)


def bounded(name, values, bound, of):
    """A gauge, and the setting that bounds it."""
    return {f"resnet_heads_{name}{{{A}}}": values, f"resnet_heads_{bound}{{{A}}}": f"{of}x30"}


def ready(a, b=None):
    return {f"resnet_heads_ready{{{A}}}": a} | ({f"resnet_heads_ready{{{B}}}": b} if b else {})


def failed(reason, values="1x30"):
    return {f'resnet_heads_failed_versions{{{A},head="gap",reason="{reason}"}}': values}


def serving(where, version, values="1x30"):
    return {f'resnet_heads_serving{{{where},head="gap",version="{version}",precision="f32"}}': values}


NO_READY, NOT_READY = "ResnetHeadsNoReadyInstance", "ResnetHeadsInstanceNotReady"
HEAD_OUT, GOLDEN = "ResnetHeadsHeadOut", "ResnetHeadsGoldenCheckFailed"
VERSION_OUT, SKEW = "ResnetHeadsVersionOut", "ResnetHeadsVersionSkew"
ERRORS, REFUSALS = "ResnetHeadsErrors", "ResnetHeadsRefusals"
SLOW, QUEUE = "ResnetHeadsSlow", "ResnetHeadsQueueNearlyFull"
BODIES, FLIGHT = "ResnetHeadsBodiesNearlyFull", "max_bytes_in_flight"

CASES = [
    Case(NO_READY, "none of two is ready", ready("0x30", "0x30"), 5, (HEADS,)),
    Case(NO_READY, "nothing is scraped", {"up": "1x30"}, 5, ({},)),
    Case(NO_READY, "one of two is ready", ready("0x30", "1x30"), 25),
    Case(NO_READY, "the only one restarts in half a minute", ready("1x4 0 1x20"), 6),
    Case(NOT_READY, "one of two is not ready", ready("0x30", "1x30"), 15, (ON_A,)),
    Case(NOT_READY, "it starts for 5 minutes", ready("0x5 1x30", "1x30"), 15),
    Case(HEAD_OUT, "its only version is damaged", failed("other"), 5, (GAP_ON_A,)),
    Case(HEAD_OUT, "an older version serves", failed("other") | serving(A, 1), 5),
    Case(HEAD_OUT, "it serves elsewhere only", failed("other") | serving(B, 1), 5, (GAP_ON_A,)),
    Case(
        GOLDEN,
        "a version computes something else",
        failed("golden-check"),
        5,
        (GAP_ON_A | {"reason": "golden-check"},),
    ),
    Case(GOLDEN, "a version is damaged", failed("other") | failed("golden-check", "0x30"), 25),
    Case(
        VERSION_OUT,
        "a version is damaged",
        failed("other") | serving(A, 1),
        10,
        (GAP_ON_A | {"reason": "other"},),
    ),
    Case(VERSION_OUT, "it is mended at once", failed("other", "1x2 0x30"), 10),
    Case(VERSION_OUT, "a golden check failed", failed("golden-check") | failed("other", "0x30"), 25),
    Case(SKEW, "two versions for long", serving(A, 1) | serving(B, 2), 20, (HEADS | {"head": "gap"},)),
    Case(SKEW, "a roll-out", serving(A, 1) | serving(B, 1, "1x9 _x30") | serving(B, 2, "_x10 1x30"), 20),
    Case(SKEW, "one version on two", serving(A, 2) | serving(B, 2), 25),
    Case(SKEW, "two jobs", serving(A, 1) | serving('job="other",instance="b"', 2), 25),
    Case(ERRORS, "2 % fail", requests(500, 20), 15, (HEADS,)),
    Case(ERRORS, "0.5 % fail", requests(500, 5), 25),
    Case(ERRORS, "clients are at fault", requests(422, 500), 25),
    Case(ERRORS, "too much comes", requests(429, 500), 25),
    Case(ERRORS, "a probe fails", requests(503, 60, "/readyz"), 25),
    Case(REFUSALS, "10 % are refused", requests(429, 100) | refusals("too-busy", 100), 15, (HEADS,)),
    Case(REFUSALS, "3 % are refused", requests(429, 30) | refusals("too-busy", 30), 25),
    Case(REFUSALS, "10 % are no images", requests(422, 100) | refusals("not-an-image", 100), 25),
    Case(SLOW, "2 of 100 are late", totals(2), 15, (ON_A,)),
    Case(SLOW, "2 of 100 are late for a short deadline", totals(2, deadline=2), 15, (ON_A,)),
    Case(SLOW, "2 of 100 are late for a long deadline", totals(2, deadline=60), 15, (ON_A,)),
    Case(SLOW, "1 of 200 is late", totals(0.5), 25),
    Case(SLOW, "nothing comes", totals(0, rate=0), 25),
    Case(SLOW, "one stage is late", totals(2, stage="queue"), 25),
    Case(QUEUE, "60 of 64 wait", pending("60x30"), 15, (ON_A,)),
    Case(QUEUE, "60 of 128 wait", pending("60x30", of=128), 25),
    Case(QUEUE, "64 wait for a minute", pending("0x10 64 0x20"), 13),
    Case(QUEUE, "1.4 s of 1.5", bounded("wait_seconds", "1.4x30", "max_wait_seconds", 1.5), 15, (ON_A,)),
    Case(QUEUE, "1.4 s of 5", bounded("wait_seconds", "1.4x30", "max_wait_seconds", 5), 25),
    Case(BODIES, "240 of 256 MB", bounded("bytes_in_flight", "24e7x30", FLIGHT, 256e6), 15, (ON_A,)),
    Case(BODIES, "240 of 512 MB", bounded("bytes_in_flight", "24e7x30", FLIGHT, 512e6), 25),
    Case(BODIES, "full for a minute", bounded("bytes_in_flight", "0x10 256e6 0x20", FLIGHT, 256e6), 13),
]
