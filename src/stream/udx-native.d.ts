// The part of udx-native that is used; the package has no types.
declare module 'udx-native' {
  import type { EventEmitter } from 'node:events'

  class UDXSocket extends EventEmitter {
    bind(port: number, host: string): void
    address(): { host: string; family: number; port: number } | null
    setRecvBufferSize(bytes: number): void
    setSendBufferSize(bytes: number): void
    trySend(bytes: Uint8Array, port: number, host: string): void
    close(): Promise<void>
  }
  /** A streamx Duplex, which is not one of node:stream. */
  class UDXStream extends EventEmitter {
    readonly id: number
    readonly mtu: number
    readonly connected: boolean
    connect(socket: UDXSocket, remoteId: number, port: number, host: string): void
    setKeepalive(timeoutMs: number): void
    write(bytes: Uint8Array): boolean
    end(): void
    destroy(error?: Error): void
    /** Not public: breaks the stream below, whatever state the Duplex is in. Does nothing the second time. */
    _predestroy(): void
    /** An unordered, unreliable message of at most the MTU. */
    trySend(bytes: Uint8Array): void
  }
  interface UDXStreamOptions {
    /** Asked about packets before `connect`; true refuses them. */
    readonly firewall?: (socket: UDXSocket, port: number, host: string) => boolean
  }
  export default class UDX {
    createSocket(): UDXSocket
    createStream(id: number, options?: UDXStreamOptions): UDXStream
  }
  export type { UDXSocket, UDXStream }
}
