/**
 * What an HTTP client puts of an answer into an error, where the answer cannot be parsed: as many bytes as it had read. A server may
 * have repeated what it was sent, and whoever prints the error prints them.
 */
import * as Predicate from "effect/Predicate"

/** The deepest error that is looked at: clients wrap errors in errors. */
const maximumDepth = 5

/**
 * Takes the bytes out of an error and its causes. Out of the object itself, because the client's spans and whoever else has seen the
 * error hold the same one.
 */
export const removeUnparsedBytes = (error: unknown, depth = 0): void => {
  if (depth > maximumDepth || !Predicate.isObject(error)) return
  // of node:http
  Reflect.deleteProperty(error, "rawPacket")
  // of undici, and so of fetch
  if (Predicate.hasProperty(error, "name") && error.name === "HTTPParserError") Reflect.deleteProperty(error, "data")
  if (error instanceof AggregateError) { for (const each of error.errors) removeUnparsedBytes(each, depth + 1) }
  if (Predicate.hasProperty(error, "cause")) removeUnparsedBytes(error.cause, depth + 1)
}
