/**
 * Which file name an id has. The plain name is Hive's; where it would be unsafe or ambiguous, the escaped name stands in.
 */
import { Buffer } from "node:buffer"
import { createHash } from "node:crypto"
import { isClean } from "../../util/sanitize.ts"

/** In UTF-8, so that the suffix fits into the 255 bytes of a file name too. */
const maximumBytes = 200
const maximumPlainBytes = 250

const reservedOnWindows = /[<>:"|?*]|[. ]$|^(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)/i

/** Hive's name for an id: several ids can share one. */
export const plainName = (id: string): string => id.replaceAll("/", "_").replaceAll("\\", "_").replaceAll("..", "_")

/** The name that only this id has. */
export const escapedName = (id: string): string => `~${createHash("sha256").update(id).digest("hex")}`

/** Whether a name is the escaped one of some id. */
export const isEscapedName = (name: string): boolean => /^~[0-9a-f]{64}$/.test(name)

/** Two names are one file on some file system when they fold to the same text. */
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

/** Whether a credential of this id may rest in the file of this name. */
export const belongsTo = (id: string, name: string): boolean =>
  name === escapedName(id) || foldName(plainName(id)) === foldName(name)

/** Whether an id can have this name as its plain one. */
export const canBePlain = (name: string): boolean => name !== "" && name.isWellFormed() && plainName(name) === name

/** Whether the plain name tells the id: no replaced character can hide in it. */
export const namesItsId = (name: string): boolean => canBePlain(name) && !name.startsWith("~") && !name.includes("_")

/**
 * The name under which an id gets its first file: the plain one, unless it is unsafe, taken, or could be mistaken for one
 * that is. `inUse` are the folded names that were in use a while ago; the one chosen is added.
 */
export const chooseName = (id: string, plainIsTaken: boolean, inUse: Set<string>, windows: boolean): string => {
  const plain = plainName(id)
  const name = !plainIsTaken && canBeWritten(plain, windows) && !inUse.has(foldName(plain)) ? plain : escapedName(id)
  inUse.add(foldName(name))
  return name
}
