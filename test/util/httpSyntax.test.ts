import { assert, describe, it } from "@effect/vitest"
import { isLoopback } from "../../src/util/httpSyntax.ts"

describe("isLoopback", () => {
  it.each([
    "http://localhost",
    "http://LOCALHOST:4000/path",
    "http://127.0.0.1",
    "http://127.255.255.254:1",
    "http://2130706433",
    "http://0x7f000001",
    "http://127.1",
    "http://[::1]:4000",
    "http://[0:0:0:0:0:0:0:1]",
    "https://localhost"
  ])("%s is this machine", (url) => assert.isTrue(isLoopback(new URL(url))))

  it.each([
    "http://aden.example.com",
    "http://localhost.example.com",
    "http://127.0.0.1.example.com",
    "http://example.com#@127.0.0.1",
    "http://localhost@example.com",
    "http://128.0.0.1",
    "http://0.0.0.0",
    "http://10.0.0.1",
    "http://[::]",
    "http://[::2]",
    "http://[::ffff:10.0.0.1]"
  ])("%s is not", (url) => assert.isFalse(isLoopback(new URL(url))))
})
