"""What a service forwards that is instrumented with OpenTelemetry's SDK for Python, with its default propagators.

Each line of the input is a JSON object with the headers of a request that the service received. The answer is a line with the
headers that the SDK adds to the requests that the service makes meanwhile.
"""

import json
import sys

from opentelemetry import context
from opentelemetry.propagate import extract, inject
from opentelemetry.sdk.trace import TracerProvider

tracer = TracerProvider().get_tracer("e2e")
for line in sys.stdin:
    token = context.attach(extract(json.loads(line)))
    with tracer.start_as_current_span("call"):
        headers = {}
        inject(headers)
    context.detach(token)
    print(json.dumps(headers), flush=True)
