// The part of udx-native that is used; the package has no types.
declare module 'udx-native' {
  import type { EventEmitter } from 'node:events'
  import type { Duplex } from 'node:stream'

  class UDXSocket extends EventEmitter {
    bind(port: number, host: string): void
    address(): { host: string; family: number; port: number } | null
    setRecvBufferSize(bytes: number): void
    setSendBufferSize(bytes: number): void
    close(): Promise<void>
  }
  class UDXStream extends Duplex {
    readonly id: number
    readonly mtu: number
    connect(socket: UDXSocket, remoteId: number, port: number, host: string): void
    setKeepalive(timeoutMs: number): void
  }
  export default class UDX {
    createSocket(): UDXSocket
    createStream(id: number): UDXStream
  }
  export type { UDXSocket, UDXStream }
}
