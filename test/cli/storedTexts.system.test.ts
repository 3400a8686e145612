import { describeWith } from "../fixtures/realServers.ts"
import { databases } from "./databases.ts"
import { suite } from "./storedTextsSuite.ts"

for (const { name, place, server } of databases) {
  describeWith(server, `aden-creds over what was put into ${name}`, () => suite(place))
}
