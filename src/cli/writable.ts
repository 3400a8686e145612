/**
 * Whether a write would succeed, as far as that shows without one.
 */
import * as Effect from "effect/Effect"
import * as Path from "effect/Path"
import * as Predicate from "effect/Predicate"
import { statfs } from "node:fs/promises"
import process from "node:process"
import { StorageIoFailed } from "../errors/CredentialError.ts"
import type { PrivateFiles } from "../storage/files/PrivateFiles.ts"
import { cleanText } from "../util/sanitize.ts"

/** Fails where nothing can be written in the folder, it is missing and cannot be made, or the disk is full. */
export const checkWritable = Effect.fnUntraced(function*(files: PrivateFiles, folder: string) {
  const path = yield* Path.Path
  yield* files.checkWritable(folder)

  const checkSpace = (place: string): Effect.Effect<void, StorageIoFailed> =>
    Effect.matchEffect(spaceAt(place), {
      // not every file system tells
      onFailure: (isMissing) =>
        isMissing && path.dirname(place) !== place ? checkSpace(path.dirname(place)) : Effect.void,
      onSuccess: (hasSpace) =>
        hasSpace
          ? Effect.void
          : Effect.fail(
            new StorageIoFailed({ location: cleanText(place), detail: "ENOSPC: no space left on device" })
          )
    })
  yield* checkSpace(folder)
})

/** Whether there are blocks, and numbers for files, where a file system counts them. Fails with whether nothing is there. */
const spaceAt = (place: string): Effect.Effect<boolean, boolean> =>
  Effect.tryPromise({
    try: async () => {
      const { bavail, bfree, blocks, ffree, files } = await statfs(place)
      // some are kept for root
      const blocksLeft = process.getuid?.() === 0 ? bfree : bavail
      return (blocks === 0 || blocksLeft > 0) && (files === 0 || ffree > 0)
    },
    catch: (cause) => Predicate.hasProperty(cause, "code") && cause.code === "ENOENT"
  })
