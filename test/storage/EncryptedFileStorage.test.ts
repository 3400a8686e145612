import { suite } from "./StorageContract.ts"
import { TemporaryStorage } from "./temporaryStorage.ts"

suite("EncryptedFileStorage", TemporaryStorage)
