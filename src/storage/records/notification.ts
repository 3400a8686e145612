/**
 * What a database tells of, as the text that goes through its channel.
 */
import * as Schema from "effect/Schema"
import type { RecordChange } from "./RecordDatabase.ts"

const NoticeText = Schema.fromJsonString(Schema.Union([
  Schema.Struct({
    _tag: Schema.Literals(["Saved", "Deleted"]),
    sequence: Schema.Int,
    id: Schema.String,
    by: Schema.String
  }),
  Schema.Struct({ _tag: Schema.Literal("Released"), id: Schema.String })
]))

/** None when others published it there, who say nothing. */
export const decodeNotice = Schema.decodeUnknownOption(NoticeText)

/** A notice of a change but for its number: the database, which counts them, puts `{"sequence":`, number and comma in front. */
export const unnumberedNotice = (change: Omit<RecordChange, "sequence">): string => JSON.stringify(change).slice(1)

/** A notice of a lease that was given back. */
export const releaseNotice = (id: string): string => JSON.stringify({ _tag: "Released", id })
