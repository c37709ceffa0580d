import { measure, stopLabsOnSignal } from './run.ts'
import { bare } from './subjects/bare.ts'
stopLabsOnSignal()
console.log(JSON.stringify(await measure(bare, 2, console.log)))
process.exit(0)
