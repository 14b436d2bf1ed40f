// As `propagate.py`, with OpenTelemetry's SDK for JavaScript and the propagators that it has by default.
import { createInterface } from "node:readline";

import { ROOT_CONTEXT, defaultTextMapGetter, defaultTextMapSetter } from "@opentelemetry/api";
import { CompositePropagator, W3CBaggagePropagator, W3CTraceContextPropagator } from "@opentelemetry/core";

const propagators = [new W3CTraceContextPropagator(), new W3CBaggagePropagator()];
const propagator = new CompositePropagator({ propagators });
for await (const line of createInterface({ input: process.stdin })) {
  const received = propagator.extract(ROOT_CONTEXT, JSON.parse(line), defaultTextMapGetter);
  const headers = {};
  propagator.inject(received, headers, defaultTextMapSetter);
  console.log(JSON.stringify(headers));
}
