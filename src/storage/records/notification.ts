/**
 * Notifications as the text that is sent through a channel of the database.
 */
import * as Schema from "effect/Schema"
import type { RecordChange } from "./RecordDatabase.ts"

const NotificationText = Schema.fromJsonString(Schema.Union([
  Schema.Struct({
    _tag: Schema.Literals(["Saved", "Deleted"]),
    sequence: Schema.Int,
    id: Schema.String,
    by: Schema.String,
    // versions that do not send it share databases with this one; they ignore it
    generation: Schema.optional(Schema.Int)
  }),
  Schema.Struct({ _tag: Schema.Literal("Released"), id: Schema.String })
]))

/** None when another program published the text. */
export const decodeNotification = Schema.decodeUnknownOption(NotificationText)

/**
 * The notification of a change, without its numbers: the database, which counts, puts
 * `{"sequence":`, the number, `,"generation":`, the generation and a comma in front.
 */
export const unnumberedNotification = (change: Omit<RecordChange, "sequence" | "generation">): string =>
  JSON.stringify(change).slice(1)

/** The notification that a lease was released. */
export const releaseNotification = (id: string): string => JSON.stringify({ _tag: "Released", id })
