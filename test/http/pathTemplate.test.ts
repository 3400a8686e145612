import { assert, describe, it } from "@effect/vitest"
import { pathTemplate } from "../../src/http/pathTemplate.ts"

describe("pathTemplate", () => {
  it.each([
    ["/", "/"],
    ["/crm/v3/objects/contacts", "/crm/v3/objects/contacts"],
    ["/crm/v3/objects/contacts/4711", "/crm/v3/objects/contacts/{id}"],
    ["/users/3f2504e0-4f89-11d3-9a0c-0305e82c3301/keys/", "/users/{id}/keys/"],
    ["/v1.2/oauth2/people/ada%40example.com", "/v1.2/oauth2/people/{id}"],
    ["/hooks/T024BE7LD/B024BE7LD/XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX", "/hooks/{id}/{id}/{id}"]
  ])("%s is %s", (path, template) => {
    assert.strictEqual(pathTemplate(path), template)
  })
})
