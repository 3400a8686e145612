/**
 * Spans without the credential: clients write headers of answers into spans, and servers repeat what they were sent in some of them
 * (`Link`, `Content-Location`), under names that no list can foresee.
 */
import * as Effect from "effect/Effect"
import * as Tracer from "effect/Tracer"
import type { SecretForms } from "./echoes.ts"

/** The effect with the secrets masked in the names, attributes and events of the spans that it begins. */
export const hideInSpans = <A, E, R>(self: Effect.Effect<A, E, R>, forms: SecretForms): Effect.Effect<A, E, R> =>
  forms.isEmpty ? self : Effect.flatMap(Effect.tracer, (tracer) => Effect.withTracer(self, hiding(tracer, forms)))

const hiding = (tracer: Tracer.Tracer, forms: SecretForms): Tracer.Tracer => {
  const { context } = tracer
  return Tracer.make({
    span: (options) => hidingSpan(tracer.span({ ...options, name: forms.mask(options.name) }), forms),
    ...(context === undefined ? {} : { context })
  })
}

/** The same object: exporters know their own spans by it. */
const hidingSpan = (span: Tracer.Span, forms: SecretForms): Tracer.Span => {
  const attribute = span.attribute.bind(span)
  const event = span.event.bind(span)
  span.attribute = (key, value) => attribute(forms.mask(key), masked(value, forms))
  span.event = (name, startTime, attributes) =>
    event(
      forms.mask(name),
      startTime,
      attributes &&
        Object.fromEntries(Object.entries(attributes).map(([key, value]) => [forms.mask(key), masked(value, forms)]))
    )
  return span
}

const masked = (value: unknown, forms: SecretForms): unknown =>
  typeof value === "string"
    ? forms.mask(value)
    : Array.isArray(value)
    ? value.map((item: unknown) => masked(item, forms))
    : value
