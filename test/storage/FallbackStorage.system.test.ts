import { FallbackStorage } from "aden-credentials"
import { Layer } from "effect"
import { suite } from "./StorageContract.ts"
import { TemporaryStorage } from "./temporaryStorage.ts"

suite("FallbackStorage of files, over files", FallbackStorage.layer([TemporaryStorage, Layer.fresh(TemporaryStorage)]))
