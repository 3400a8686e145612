/**
 * The file names of ids. The plain name is Hive's; where it would be unsafe or ambiguous, the escaped name is used.
 */
import { Buffer } from "node:buffer"
import { createHash } from "node:crypto"
import { isClean } from "../../util/sanitize.ts"

/** In UTF-8, so that name and suffix fit into the 255 bytes of a file name. */
const maximumBytes = 200
const maximumPlainBytes = 250

const reservedOnWindows = /[<>:"|?*]|[. ]$|^(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)/i

/** What cannot be in a file name, and `..`. */
const unsafe = /\/|\\|\.\./g

/** Hive's name for an id: several ids can share one. */
export const plainName = (id: string): string => id.replace(unsafe, "_")

/** The unique name of an id. */
export const escapedName = (id: string): string => `~${createHash("sha256").update(id).digest("hex")}`

/** Whether a name is an escaped one. */
export const isEscapedName = (name: string): boolean => /^~[0-9a-f]{64}$/.test(name)

/** Case and Unicode folding: names that fold to the same text can be the same file on some file system. */
export const foldName = (name: string): string => name.normalize("NFC").toUpperCase().toLowerCase()

/** Whether a file of this plain name can exist at all, such as one that Hive wrote. */
export const canBeRead = (plain: string): boolean =>
  !plain.includes("\0") && Buffer.byteLength(plain) <= maximumPlainBytes

/** Whether this package writes new files under the plain name. */
export const canBeWritten = (plain: string, windows: boolean): boolean =>
  !plain.startsWith("~") &&
  Buffer.byteLength(plain) <= maximumBytes &&
  plain.normalize("NFC") === plain &&
  isClean(plain) &&
  !(windows && reservedOnWindows.test(plain))

/** Whether the file of this name may hold the credential of this id. */
export const belongsTo = (id: string, name: string): boolean =>
  name === escapedName(id) || foldName(plainName(id)) === foldName(name)

/** Whether this can be the plain name of an id. */
export const canBePlain = (name: string): boolean => name !== "" && name.isWellFormed() && plainName(name) === name

/** Whether this plain name is the id itself: it has no character that could be a replacement. */
export const namesItsId = (name: string): boolean => canBePlain(name) && !name.startsWith("~") && !name.includes("_")

/** The name for the first file of an id: the plain one, unless it is unsafe, or taken by a name that folds to the same text. */
export const chooseName = (
  id: string,
  plainIsTaken: boolean,
  isTaken: (plain: string) => boolean,
  windows: boolean
): string => {
  const plain = plainName(id)
  return !plainIsTaken && canBeWritten(plain, windows) && !isTaken(plain) ? plain : escapedName(id)
}
