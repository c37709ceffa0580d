// Calls of the C library that Node has no name for, through node:ffi (experimental in Node 26, absent in older ones). Each
// module binds the calls that it needs, with `bind`:
//
//   const calls = bind({ getuid: { arguments: [], return: 'uint32' } })
//
// Traps: errno is right only immediately after the call; 64-bit integers are bigints, never numbers; a Buffer whose address
// was taken with `addressOf` must stay referenced for as long as the kernel may touch it. open and ioctl are variadic, which
// passes arguments in the same registers on Linux x86-64 and arm64.

import { getSystemErrorMap } from 'node:util'
import { HopliteError } from '#api/errors.ts'

type Ffi = typeof import('node:ffi')
type Definitions = NonNullable<Parameters<Ffi['dlopen']>[1]>

export const O_RDWR = 0o2
export const O_NONBLOCK = 0o4000
export const O_CLOEXEC = 0o2000000

let ffi: Ffi | undefined
let errnoLocation: bigint | undefined

/** Binds calls of the C library by name. Throws FFI_MISSING when this Node has no node:ffi or may not use it. */
export function bind<const T extends Definitions>(definitions: T): ReturnType<typeof dlopen<T>>['functions'] {
  // Looked up here, because looking up changes it.
  errnoLocation ??= dlopen({ __errno_location: { arguments: [], return: 'pointer' } }).functions.__errno_location()
  return dlopen(definitions).functions
}

/** Where the bytes of a buffer are in memory; the caller keeps the buffer referenced. */
export function addressOf(bytes: NodeJS.ArrayBufferView): bigint {
  return loaded().getRawPointer(bytes)
}

let files: ReturnType<typeof bindFiles> | undefined

/** The calls on file descriptors that every module here needs. */
export function fileCalls(): ReturnType<typeof bindFiles> {
  files ??= bindFiles()
  return files
}

/** The number of the last call's error in this thread, such as 1 for EPERM. */
export function errno(): number {
  return loaded().getInt32(errnoLocation ?? 0n)
}

/** The name of an error number, such as `EPERM`. */
export function errorName(number: number): string {
  return getSystemErrorMap().get(-number)?.[0] ?? `error ${number}`
}

function bindFiles() {
  return bind({
    open: { arguments: ['string', 'int32', 'uint32'], return: 'int32' },
    close: { arguments: ['int32'], return: 'int32' },
    ioctl: { arguments: ['int32', 'uint64', 'pointer'], return: 'int32' },
  })
}

function dlopen<const T extends Definitions>(definitions: T) {
  try {
    return loaded().dlopen<T>(null, definitions)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_ACCESS_DENIED') throw error
    const what = "call the system's C library: this process may not use node:ffi"
    throw new HopliteError('FFI_MISSING', what, 'start it without --permission, or with --allow-ffi too', error)
  }
}

function loaded(): Ffi {
  if (ffi !== undefined) return ffi
  const found = process.platform === 'linux' ? process.getBuiltinModule('node:ffi') : undefined
  if (found === undefined) {
    throw new HopliteError(
      'FFI_MISSING',
      `call the system's C library: Node ${process.versions.node} on ${process.platform} has no node:ffi`,
      'run on Linux with the Node that this package pins (26.10), without --permission',
    )
  }
  ffi = found
  return ffi
}
