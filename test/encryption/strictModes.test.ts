import { assert, describe, it } from "@effect/vitest"
import { Option } from "effect"
import { secretFileFault, secretFolderFault, strangerOf } from "../../src/encryption/strictModes.ts"

const agent = { uid: 1000, groups: new Set([1000, 2000]) }
const superuser = { uid: 0, groups: new Set([0]) }
const access = (uid: number, gid: number, mode: number) => ({ uid: Option.some(uid), gid: Option.some(gid), mode })

describe("who may own a file with a secret, and its mode", () => {
  it.each([
    ["its user's, closed", agent, access(1000, 1000, 0o100600), undefined],
    ["its user's, read-only", agent, access(1000, 1000, 0o100400), undefined],
    ["root's, world-readable", agent, access(0, 0, 0o100644), "open to others"],
    ["root's, readable to a group of the process (fsGroup)", agent, access(0, 2000, 0o100440), undefined],
    ["root's, with root's write bit (fsGroup)", agent, access(0, 2000, 0o100640), undefined],
    ["root's, readable to another group", agent, access(0, 3000, 0o100440), "open to others"],
    ["root's, writable to the group", agent, access(0, 2000, 0o100660), "open to others"],
    ["its user's, readable to the group", agent, access(1000, 1000, 0o100640), "open to others"],
    ["its user's, read-only and readable to the group", agent, access(1000, 2000, 0o100440), undefined],
    ["root's for root, mounted read-only", superuser, access(0, 0, 0o100440), undefined],
    ["another user's", agent, access(1234, 1000, 0o100600), "belongs to user 1234"],
    ["another user's for root", superuser, access(1000, 1000, 0o100600), "belongs to user 1000"],
    ["of a system without users", undefined, { uid: Option.none(), gid: Option.none(), mode: 0o600 }, undefined]
  ])("%s", (_, user, found, what) => {
    const fault = secretFileFault("/key", found, user)
    if (what === undefined) assert.isUndefined(fault)
    else assert.include(fault?.detail, what)
  })
})

describe("the folder of such a file", () => {
  it.each([
    ["closed", access(1000, 1000, 0o40700), undefined],
    ["root's, readable to all", access(0, 0, 0o40755), undefined],
    ["writable to all", access(1000, 1000, 0o40777), "/f, where others can replace it"],
    ["writable to the group", access(1000, 1000, 0o40770), "/f, where others can replace it"],
    ["writable to all, with the sticky bit (a volume of Kubernetes)", access(0, 2000, 0o43777), undefined],
    ["another user's", access(1234, 1000, 0o40700), "/f, which belongs to user 1234"],
    ["another user's, with the sticky bit", access(1234, 1000, 0o41777), "/f, which belongs to user 1234"]
  ])("%s", (_, found, what) => {
    const fault = secretFolderFault("/f", found, agent)
    if (what === undefined) assert.isUndefined(fault)
    else assert.include(fault?.detail, what)
  })
})

it("a stranger is neither the user of the process nor root", () => {
  assert.deepStrictEqual([0, 1000, 7].map((uid) => strangerOf({ uid: Option.some(uid) }, agent)), [
    undefined,
    undefined,
    7
  ])
})
