import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import { tlsOf } from "../../../src/storage/postgres/tls.ts"

const plain = undefined
const verifyFull = { authority: true, hostName: true, rootFile: undefined }
const verifyCa = { authority: true, hostName: false, rootFile: undefined }
const require = { authority: false, hostName: false, rootFile: undefined }
const of = (file: string, verification: typeof verifyFull) => ({ ...verification, rootFile: file })

const parsed = (text: string, allowInsecure = false) => tlsOf(new URL(text), { allowInsecure })

describe("TLS of a Postgres URL", () => {
  it.each([
    // this machine
    ["postgres://127.0.0.1/db", plain],
    ["postgres://localhost:5432/db", plain],
    ["postgres://[::1]/db", plain],
    ["postgres:///db", plain],
    ["postgres://%2Fvar%2Frun%2Fpostgresql/db", plain],
    ["postgres:///db?host=/var/run/postgresql&sslmode=verify-full", plain],
    ["postgres://db.internal/db?host=127.0.0.1", plain],
    ["postgres://127.0.0.1/db?sslmode=require", require],
    ["postgres://127.0.0.1/db?ssl=true", verifyFull],
    ["postgres://127.0.0.1/db?sslrootcert=/ca.pem", of("/ca.pem", verifyFull)],
    // others
    ["postgres://db.internal/db", verifyFull],
    ["postgres://127.0.0.1/db?host=db.internal", verifyFull],
    ["postgres://127.0.0.1.example.com/db", verifyFull],
    ["postgres://2130706433/db", verifyFull],
    ["postgres://db.internal/db?ssl=true", verifyFull],
    ["postgres://db.internal/db?sslmode=disable", plain],
    ["postgres://db.internal/db?sslmode=require", require],
    ["postgres://db.internal/db?sslmode=require&sslrootcert=/ca.pem", of("/ca.pem", verifyCa)],
    ["postgres://db.internal/db?sslmode=verify-ca", verifyCa],
    ["postgres://db.internal/db?sslmode=verify-full&sslrootcert=system", verifyFull],
    ["postgres://db.internal/db?sslmode=verify-full&channel_binding=prefer&application_name=x", verifyFull]
  ])("%s", (url, tls) => assert.deepStrictEqual(parsed(url), Result.succeed(tls)))

  it("is plain text with allowInsecure, where the URL does not ask for TLS", () => {
    assert.deepStrictEqual(parsed("postgres://db.internal/db", true), Result.succeed(plain))
    assert.deepStrictEqual(parsed("postgres://db.internal/db?sslmode=verify-full", true), Result.succeed(verifyFull))
  })

  it.each([
    ["sslmode=prefer", "sslmode=prefer"],
    ["sslmode=allow", "sslmode=allow"],
    ["sslmode=hidden", "unknown sslmode"],
    ["sslmode=", "unknown sslmode"],
    ["sslmode=Require", "unknown sslmode"],
    ["sslmode=require&sslmode=disable", "more than once"],
    ["ssl=true&sslmode=disable", "more than once"],
    ["ssl=require", "ssl other than true"],
    ["ssl=1", "ssl other than true"],
    ["ssl=false", "ssl other than true"],
    ["sslcert=/client.pem", "sslcert"],
    ["SSLMode=require", "SSLMode"],
    ["tls=true", "tls"],
    ["channel_binding=require", "channel_binding"],
    ["gssencmode=require", "gssencmode"],
    ["sslmode=require&sslrootcert=system", "sslrootcert=system"],
    ["sslmode=require&sslrootcert=", "empty sslrootcert"]
  ])("%s is refused, also where no TLS is needed", (query, what) => {
    for (const host of ["127.0.0.1", "db.internal"]) {
      const fault = parsed(`postgres://${host}/db?${query}`)
      assert.include(Result.isFailure(fault) ? fault.failure.detail : "", what)
      assert.include(Result.isFailure(fault) ? fault.failure.remedy : "", what.includes("root") ? " " : "verify-full")
    }
  })
})
