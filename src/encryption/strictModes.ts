/**
 * Who else can change what this program trusts, by owner and mode, as the `StrictModes` of ssh: the user of the process and root
 * may own it, and nobody else may write it.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import { AdenConfigError } from "../errors/ConfigError.ts"
import { unreadableSetting } from "../model/settings.ts"
import { shellQuote } from "../util/shellQuote.ts"

/** The variable that turns the checks off, for containers and shared volumes whose users differ. */
export const strictModesSetting = "ADEN_STRICT_MODES"

/** Whether owners and modes are checked: yes, unless the variable is `false`. */
export const strictModes: Effect.Effect<boolean, AdenConfigError> = Effect.suspend(() =>
  Config.withDefault(Config.String(strictModesSetting), "")
).pipe(
  Effect.mapError(() => unreadableSetting(strictModesSetting)),
  Effect.flatMap((text) =>
    text === "" || text === "true" || text === "false" ? Effect.succeed(text !== "false") : Effect.fail(
      new AdenConfigError({
        setting: strictModesSetting,
        detail: "is neither true nor false",
        remedy: "Leave it out, or set it to false where the owners and modes of files cannot be right."
      })
    )
  )
)

/** The user that this process runs as. */
export interface ProcessUser {
  readonly uid: number
  readonly groups: ReadonlySet<number>
}

// oxlint-disable-next-line eslint/no-restricted-globals -- nothing else tells the user; absent where there is no process
const nodeProcess: Partial<typeof globalThis.process> | undefined = globalThis.process

/** The user of this process at this moment; `undefined` where the system has none. */
export const processUser = (): ProcessUser | undefined => {
  const uid = nodeProcess?.geteuid?.()
  if (uid === undefined) return undefined
  const group = nodeProcess?.getegid?.()
  const groups = nodeProcess?.getgroups?.() ?? []
  return { uid, groups: new Set(group === undefined ? groups : [...groups, group]) }
}

type Access = Pick<FileSystem.File.Info, "uid" | "gid" | "mode">

/** What is wrong with a file or folder, for a person. */
export interface AccessFault {
  readonly detail: string
  readonly remedy: string
}

const root = 0
const sticky = 0o1000
const writtenByOthers = 0o022
const readOrWrittenByAll = 0o006
const writtenByGroup = 0o020
const readByGroup = 0o040
const writable = 0o222

/** The owner, when that is neither this process's user nor root; `undefined` for these, and where owners are not known. */
export const strangerOf = ({ uid }: Pick<Access, "uid">, user: ProcessUser | undefined): number | undefined => {
  if (user === undefined || Option.isNone(uid)) return undefined
  return uid.value === user.uid || uid.value === root ? undefined : uid.value
}

/** Ends a remedy, for what the command before it cannot fix. */
const orTurnOff = `set ${strictModesSetting}=false where users differ on purpose, as in a container`

/** What is wrong with a file that holds a secret, by what the path leads to. */
export const secretFileFault = (
  file: string,
  access: Access,
  user: ProcessUser | undefined
): AccessFault | undefined => {
  const stranger = strangerOf(access, user)
  if (stranger !== undefined && user !== undefined) {
    return {
      detail: `belongs to user ${stranger}, who can read and change it`,
      remedy: `Run: chown ${user.uid} ${
        shellQuote(file)
      } (and make a new key if that user may not see it); or ${orTurnOff}.`
    }
  }
  const { mode } = access
  if ((mode & (readOrWrittenByAll | writtenByGroup)) === 0 && ((mode & readByGroup) === 0 || isMounted(access, user))) {
    return undefined
  }
  return {
    detail: "is open to others",
    remedy: `Run: chmod 600 ${shellQuote(file)} (and make a new key if others may have seen it).`
  }
}

/**
 * Whether a group may read a secret: one of the process, of a file that is given to it rather than made by its user. So Kubernetes
 * mounts secrets with `fsGroup`.
 */
const isMounted = ({ gid, mode, uid }: Access, user: ProcessUser | undefined): boolean => {
  const isOwn = Option.exists(uid, (uid) => uid === user?.uid)
  return Option.exists(gid, (gid) => user?.groups.has(gid) === true) && (!isOwn || (mode & writable) === 0)
}

/**
 * What is wrong with the folder of such a file: others could put another file in its place. In a folder with the sticky bit, only the
 * owner of a file can.
 */
export const secretFolderFault = (
  folder: string,
  access: Access,
  user: ProcessUser | undefined
): AccessFault | undefined => {
  const stranger = strangerOf(access, user)
  if (stranger !== undefined && user !== undefined) {
    return {
      detail: `is in ${folder}, which belongs to user ${stranger}, who can replace it`,
      remedy: `Run: chown ${user.uid} ${shellQuote(folder)}; or ${orTurnOff}.`
    }
  }
  if ((access.mode & writtenByOthers) === 0 || (access.mode & sticky) !== 0) return undefined
  return {
    detail: `is in ${folder}, where others can replace it`,
    remedy: `Run: chmod go-w ${shellQuote(folder)} (and look whether it is the right file); or ${orTurnOff}.`
  }
}
