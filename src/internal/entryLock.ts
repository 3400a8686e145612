import * as Effect from "effect/Effect"
import { foldName, plainName } from "./entryName.ts"
import { makeKeyedLock } from "./keyedLock.ts"

/** Held while a file is written, keyed by directory and what is written in it: several layers may have one directory. */
export const writing = makeKeyedLock()

/**
 * Runs what writes the entry of an id in a directory. Ids that could come to share a file are written one after another. Work
 * that has begun is finished.
 */
export const writingEntryIn = (directory: string) => (id: string) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  writing(`${directory}\0entry\0${foldName(plainName(id))}`)(Effect.uninterruptible(effect))
