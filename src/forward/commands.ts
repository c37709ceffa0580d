// What the control plane writes into the data plane's tables, and what it hears back. Plain data: both cross a thread.
//
// Every install has its remove; removing a session removes what hangs on it (keys, flows, tap). A command for something
// that is no longer there is ignored: the two planes are never in step to the instant.

import type { Address } from '#wire/address.ts'
import type { ProofKind } from './flow-proof.ts'

/** Keys of one direction pair of a session, as a handshake produced them. */
export interface Keypair {
  /** The index under which we receive. */
  readonly localIndex: number
  /** The index that the other end receives under. */
  readonly remoteIndex: number
  readonly send: Uint8Array
  readonly receive: Uint8Array
}

/** Where a session's packets go: out of our socket, or inside a flow of another session. */
export type Via =
  | { readonly kind: 'socket'; readonly address: Address }
  | { readonly kind: 'flow'; readonly session: number; readonly flow: number }

/**
 * Which end of a session this is. A responder moves the session to the address of the newest authenticated packet and
 * uses new keys once the other end has used them; an initiator decides both itself.
 */
export type SessionRole = 'initiator' | 'responder'

/** Commands that touch tables and packets alone: the packet function carries them out, whatever the engine. */
export type TableCommand =
  | { readonly kind: 'installKeys'; readonly session: number; readonly keys: Keypair }
  | { readonly kind: 'removeKeys'; readonly session: number; readonly localIndex: number }
  | { readonly kind: 'setVia'; readonly session: number; readonly via: Via }
  /** A flow of a client: what comes in on it are packets of the sessions further out. */
  | { readonly kind: 'installNesting'; readonly session: number; readonly flow: number }
  /** With `session`, after what was installed for that one: so the first packet that answers finds it. */
  | { readonly kind: 'sendHandshake'; readonly via: Via; readonly bytes: Uint8Array; readonly session?: number }
  | { readonly kind: 'sendControl'; readonly session: number; readonly bytes: Uint8Array }
  | {
      readonly kind: 'sendProbe'
      readonly session: number
      readonly via?: Via
      /** The far end is to send its packets back this way. */
      readonly claims: boolean
      readonly token: Uint8Array
      /** Padded to this many bytes behind the frame header, as long as a packet that the way is to carry. */
      readonly bytes?: number
      /** It asks whether so long a packet passes in one piece: no router may cut it up. */
      readonly isWhole?: boolean
    }
  /** The control plane has dealt with this many handshake packets: as many more may be reported. */
  | { readonly kind: 'grantHandshakes'; readonly count: number }
  | { readonly kind: 'reportSession'; readonly request: number; readonly session: number }
  /**
   * How many bytes a session may carry in all. A hop drops what comes after them; a client is told once when they are
   * used up.
   */
  | { readonly kind: 'limitSession'; readonly session: number; readonly bytes: number }
  | { readonly kind: 'reportUse'; readonly session: number }
  /** A flow of a client that waits for another (relay/meeting-room.ts); what it sends is kept within the rate. */
  | {
      readonly kind: 'installMeeting'
      readonly session: number
      readonly flow: number
      readonly bytesPerSecond: number
    }
  /** What comes in on one of two flows of that kind goes out on the other; whatever they were joined to before is not heard. */
  | { readonly kind: 'joinMeeting'; readonly flows: readonly [MeetingEnd, MeetingEnd] }
  /** What may be lent, all flows together, in bytes a second: flows to WireGuard servers and, with `hops`, to other hops. */
  | { readonly kind: 'limitLent'; readonly bytesPerSecond: number; readonly hops: boolean }

/** One of two flows that are joined. */
export interface MeetingEnd {
  readonly session: number
  readonly flow: number
  /** The worker that has it, when it is another than the one that is told. */
  readonly worker?: number
}

/** Commands that open and close sockets: each engine has its own way. */
export type SocketCommand =
  | {
      readonly kind: 'installSession'
      readonly session: number
      readonly role: SessionRole
      readonly via: Via
      readonly keys: Keypair
    }
  | { readonly kind: 'removeSession'; readonly session: number }
  /** A flow of a hop: datagrams to and from `address`. `proof`: what the far end has to prove to be. */
  | {
      readonly kind: 'installFlow'
      readonly session: number
      readonly flow: number
      readonly address: Address
      readonly proof?: ProofKind
      readonly first: Uint8Array
    }
  | { readonly kind: 'removeFlow'; readonly session: number; readonly flow: number }
  /** The session's tap: stream datagrams to and from the stream library at `address` on loopback. */
  | { readonly kind: 'installTap'; readonly session: number; readonly address: Address }
  /** A UDP endpoint for a proxy's client (SOCKS5 UDP ASSOCIATE) on the loopback address `host`. */
  | {
      readonly kind: 'installAssociation'
      readonly association: number
      readonly session: number
      readonly host: string
    }
  | {
      readonly kind: 'installAssociationTarget'
      readonly association: number
      readonly header: Uint8Array
      readonly flow: number
    }
  | { readonly kind: 'removeAssociation'; readonly association: number }
  /**
   * An entry: one WireGuard server that is reached through peers. Its client is either whatever WireGuard speaks to
   * `listen`, or our own device on a TUN.
   */
  | { readonly kind: 'installEntry'; readonly entry: number; readonly client: EntryClient }
  | { readonly kind: 'removeEntry'; readonly entry: number }
  /** One more way to an entry's server: a flow that a peer has opened to it. */
  | { readonly kind: 'installLeg'; readonly entry: number; readonly session: number; readonly flow: number }
  /** Datagrams of an entry take this session's leg; none of them any when it is undefined. */
  | { readonly kind: 'useLeg'; readonly entry: number; readonly session: number | undefined }
  | { readonly kind: 'removeLeg'; readonly entry: number; readonly session: number }
  /** Begins a handshake with the server now, if the client is our own. */
  | { readonly kind: 'proveLeg'; readonly entry: number }
  | { readonly kind: 'installTunnel'; readonly tunnel: TunnelPlan }
  /** Sends a packet of so many bytes through the tunnel to its own address; `tunnelEcho` when it comes back. */
  | {
      readonly kind: 'probeTunnel'
      readonly entry: number
      readonly token: Uint8Array
      readonly bytes: number
      readonly isWhole?: boolean
    }
  /** The longest packet of the tunnel from now on, in bytes: no longer than the plan's. */
  | { readonly kind: 'resizeTunnel'; readonly mtu: number }
  /** This node's TUN for packets of sessions; one that was open is closed. The descriptor belongs to the data plane. */
  | { readonly kind: 'openPort'; readonly port: PortPlan }
  /** Closes the TUN and its descriptor; flows of packets stay installed and what comes in on them is dropped. */
  | { readonly kind: 'closePort' }
  /**
   * A flow of IP packets between a session and the port. At an exit `inside` are the addresses that stand for the client.
   * Without it, at a client, this is the port's only flow: a later one takes its place.
   */
  | {
      readonly kind: 'installPacketFlow'
      readonly session: number
      readonly flow: number
      readonly inside?: InsideAddresses
      /** The longest packet in bytes. */
      readonly mtu: number
    }
  | { readonly kind: 'resizePacketFlow'; readonly session: number; readonly flow: number; readonly mtu: number }
  | { readonly kind: 'reportTunnel'; readonly request: number }
  /**
   * One more socket of the node's, which leads to `to` alone: it has a way there that its own has not. `standIn` is what sessions and
   * reports call that way. `fd` belongs to the data plane; without it, `port` is bound.
   */
  | {
      readonly kind: 'openPunched'
      readonly standIn: Address
      readonly to: Address
      readonly port: number
      readonly fd?: number
    }
  | { readonly kind: 'closePunched'; readonly standIn: Address }
  /** Removes flows that carried nothing for `idleMs`; each is reported. */
  | { readonly kind: 'sweep'; readonly idleMs: number }
  /** Laboratory only: remember the addresses seen and whether `marker` could be read. */
  | { readonly kind: 'observe'; readonly marker: Uint8Array }
  /** Laboratory: die, as of a bug; one worker, or all of them; `isSudden`: with no time to close anything. */
  | { readonly kind: 'crash'; readonly worker?: number; readonly isSudden?: boolean }
  | { readonly kind: 'reportObservation'; readonly request: number }

export type EntryClient = { readonly kind: 'socket'; readonly listen: Address } | { readonly kind: 'tunnel' }

/** Which packets a TUN takes and gives as superpackets, with a virtio header before each. */
export type TunOffload = 'none' | 'tcp' | 'tcp and udp'

/** A TUN of this node whose packets belong to sessions. */
export interface PortPlan {
  readonly fd: number
  /** Further queues of the same device, for further workers. */
  readonly moreFds?: readonly number[]
  readonly offload: TunOffload
  /** The longest packet that sessions carry, in bytes; the TUN's own MTU may be larger. */
  readonly mtu: number
}

/** Addresses of an exit's tunnel networks that stand for one client, one for each family at most: 4 and 16 bytes. */
export interface InsideAddresses {
  readonly address4?: Uint8Array
  readonly address6?: Uint8Array
}

/** Our own WireGuard device, and the TUN whose packets it carries. */
export interface TunnelPlan {
  readonly fd: number
  readonly offload: TunOffload
  readonly mtu: number
  /** An address of ours in the tunnel, 4 or 16 bytes, for probes; undefined when there is none. */
  readonly address?: Uint8Array
  readonly privateKey: Uint8Array
  readonly peers: readonly TunnelPeer[]
}

export interface TunnelPeer {
  readonly publicKey: Uint8Array
  readonly presharedKey?: Uint8Array
  /** The entry that leads to this peer's server; undefined for a peer without an endpoint. */
  readonly entry?: number
  readonly persistentKeepaliveSeconds: number
  readonly allowedIps: readonly { readonly address: Uint8Array; readonly bits: number }[]
}

/** What `wg show` tells of one peer of a tunnel. */
export interface TunnelPeerReport {
  readonly publicKey: Uint8Array
  readonly presharedKey: Uint8Array | undefined
  readonly entry: number | undefined
  readonly latestHandshakeUnixMs: number | undefined
  readonly rxBytes: number
  readonly txBytes: number
  readonly persistentKeepaliveSeconds: number
  readonly allowedIps: readonly { readonly address: Uint8Array; readonly bits: number }[]
}

export type Command = TableCommand | SocketCommand

export type Report =
  | { readonly kind: 'listening'; readonly address: Address }
  | { readonly kind: 'handshake'; readonly bytes: Uint8Array; readonly from: Via }
  /** STUN on the node's own socket; what is sent back goes out by `sendHandshake`. */
  | { readonly kind: 'stun'; readonly bytes: Uint8Array; readonly from: Address }
  | { readonly kind: 'control'; readonly session: number; readonly bytes: Uint8Array }
  /** `bytes`: behind the frame header, padding included. */
  /** A packet of `probeTunnel` came back through an entry. */
  | { readonly kind: 'tunnelEcho'; readonly entry: number; readonly token: Uint8Array }
  | {
      readonly kind: 'echo'
      readonly session: number
      readonly token: Uint8Array
      readonly bytes: number
      readonly atMs: number
    }
  /** The other end of a responder's session used these keys for the first time. */
  | { readonly kind: 'confirmed'; readonly session: number; readonly localIndex: number }
  | { readonly kind: 'tapReady'; readonly session: number; readonly address: Address }
  | { readonly kind: 'associationReady'; readonly association: number; readonly address: Address }
  /** An application sent a datagram to a target that has no flow yet; `header` is the SOCKS5 header before it. */
  | {
      readonly kind: 'associationTarget'
      readonly association: number
      readonly header: Uint8Array
      readonly datagram: Uint8Array
    }
  | {
      readonly kind: 'flowEnded'
      readonly session: number
      readonly flow: number
      readonly reason: 'idle' | 'unreachable'
    }
  | { readonly kind: 'observation'; readonly request: number; readonly observation: Observation }
  | { readonly kind: 'sessionReport'; readonly request: number; readonly packets: number; readonly bytes: number }
  /** Bytes of a session's frames that carry something: sent, and received ones that something here was waiting for. */
  | { readonly kind: 'sessionUse'; readonly session: number; readonly sent: number; readonly received: number }
  | { readonly kind: 'entryReady'; readonly entry: number; readonly address: Address }
  /** The server answered a handshake through this leg. */
  | { readonly kind: 'legProven'; readonly entry: number; readonly session: number }
  /** Datagrams go out on this leg and nothing has come back for a while, or three initiations were for nothing. */
  | { readonly kind: 'legSilent'; readonly entry: number; readonly session: number }
  | { readonly kind: 'tunnelReport'; readonly request: number; readonly peers: readonly TunnelPeerReport[] }
  | { readonly kind: 'failed'; readonly what: string }
  /** A worker died of a bug, and these sessions with it; what they had installed is gone. Those of other workers go on. */
  | { readonly kind: 'sessionsLost'; readonly sessions: readonly number[]; readonly what: string }

/** What one process really saw (laboratory only). */
export interface Observation {
  /** Remote addresses of datagrams on its sockets. */
  readonly addresses: readonly string[]
  /** Whether the marker stood in a datagram as it arrived. */
  readonly markerOnWire: boolean
  /** Whether the marker stood in a packet after a layer was opened. */
  readonly markerInside: boolean
}
