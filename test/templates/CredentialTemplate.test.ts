import { assert, describe, it } from "@effect/vitest"
import { Redacted, Result, Schema } from "effect"
import { CredentialTemplate } from "../../src/templates/CredentialTemplate.ts"
import type { TemplatePlaceholder } from "../../src/templates/CredentialTemplate.ts"

const parts = (text: string) => Result.getOrThrow(CredentialTemplate.parse(text)).parts

const placeholder = (ref: string, key?: string): TemplatePlaceholder => ({ ref, key })

describe("CredentialTemplate.parse", () => {
  it.each<readonly [string, ReadonlyArray<string | TemplatePlaceholder>]>([
    ["", []],
    ["plain text", ["plain text"]],
    ["{{hubspot.access_token}}", [placeholder("hubspot", "access_token")]],
    ["{{hubspot}}", [placeholder("hubspot")]],
    ["Bearer {{hubspot.access_token}}!", ["Bearer ", placeholder("hubspot", "access_token"), "!"]],
    ["{{a.user}}:{{a.password}}", [placeholder("a", "user"), ":", placeholder("a", "password")]],
    ["{{a}}{{b}}", [placeholder("a"), placeholder("b")]],
    // what refs may hold
    ["{{google:Timothy.access_token}}", [placeholder("google:Timothy", "access_token")]],
    ["{{google:Timothy}}", [placeholder("google:Timothy")]],
    ["{{hubspot-eu.access_token}}", [placeholder("hubspot-eu", "access_token")]],
    ["{{google:tim@example.com.access_token}}", [placeholder("google:tim@example.com", "access_token")]],
    ["{{Z29vZ2xlOlRpbQ==.access_token}}", [placeholder("Z29vZ2xlOlRpbQ==", "access_token")]],
    ["{{google/eu west/Tim.access_token}}", [placeholder("google/eu west/Tim", "access_token")]],
    ["{{a.b.c}}", [placeholder("a.b", "c")]],
    ["{{a\\b.c}}", [placeholder("a\\b", "c")]],
    ["{{_internal.token}}", [placeholder("_internal", "token")]],
    // spaces around
    ["{{ hubspot.access_token }}", [placeholder("hubspot", "access_token")]],
    ["{{\thubspot\n}}", [placeholder("hubspot")]],
    // braces that are not a placeholder
    ["{\"a\":{\"b\":\"{{x.y}}\"}}", ["{\"a\":{\"b\":\"", placeholder("x", "y"), "\"}}"]],
    ["{a} } }} {", ["{a} } }} {"]],
    ["{{a}}}", [placeholder("a"), "}"]],
    // escapes
    ["\\{{a}}", ["{{a}}"]],
    ["\\{{", ["{{"]],
    ["\\{{{{a}}", ["{{", placeholder("a")]],
    ["\\\\{{a}}", ["\\", placeholder("a")]],
    ["\\\\\\{{a}}", ["\\{{a}}"]],
    ["C:\\dir\\{{a}}", ["C:\\dir{{a}}"]],
    ["\\n\\{", ["\\n\\{"]],
    ["{{a}}\\{{b}}", [placeholder("a"), "{{b}}"]]
  ])("%j", (text, expected) => assert.deepStrictEqual(parts(text), expected))

  it.each<readonly [string, RegExp]>([
    ["{{", /offset 0 is not closed with }}/],
    ["Bearer {{hubspot.access_token", /offset 7 is not closed with }}/],
    ["Bearer {{hubspot.access_token}", /offset 7 is not closed with }}/],
    ["{{a}} {{", /offset 6 is not closed/],
    ["{{a {{b}}", /offset 0 holds a brace/],
    ["{{a.{{b}}}}", /offset 0 holds a brace/],
    ["{{{a}}", /offset 0 holds a brace/],
    ["{{a}b}}", /offset 0 holds a brace/],
    ["{{}}", /offset 0 names no credential/],
    ["{{  }}", /offset 0 names no credential/],
    ["{{.access_token}}", /offset 0 names no credential/],
    ["{{hubspot.}}", /offset 0 names no key after its dot/],
    ["{{hubspot._identity_email}}", /"_identity_email" is internal/],
    ["{{hubspot.__proto__}}", /"__proto__" is internal/]
  ])("refuses %j, in one line that shows none of the text around", (text, message) => {
    const error = Result.getOrThrow(Result.flip(CredentialTemplate.parse(`${text}`)))
    assert.strictEqual(error._tag, "CredentialTemplateError")
    assert.match(error.message, message)
    assert.notInclude(error.message, "Bearer")
    assert.notInclude(error.message, "\n")
  })

  it.prop(
    "a text whose braces are escaped is that text",
    [Schema.String, Schema.Literals(["{{", "\\{{", "{{{", "}}"])],
    ([
      text,
      braces
    ]) => {
      const whole = `${text}${braces}${text}`
      const escaped = whole.replace(/(\\*)\{\{/g, "$1$1\\{{")
      assert.deepStrictEqual(parts(escaped), [whole])
    }
  )

  it("lists the refs that it names, each once", () => {
    const template = Result.getOrThrow(CredentialTemplate.parse("{{a.x}} {{b}} {{a.y}} \\{{c}}"))
    assert.deepStrictEqual(template.refs, ["a", "b"])
  })

  it("does not read again what was put in, and shows no value", () => {
    const template = Result.getOrThrow(CredentialTemplate.parse("<{{a}}>"))
    const expanded = Result.getOrThrow(template.expand(() => Result.succeed(Redacted.make("{{b}} \\{{c}}"))))
    assert.strictEqual(Redacted.value(expanded), "<{{b}} \\{{c}}>")
    assert.notInclude(JSON.stringify(expanded) + String(expanded), "{{b}}")
  })
})
