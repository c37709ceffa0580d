// Taking the whole directory from several sources. What is asked depends only on what is missing, never on which relays
// will be used: choosing happens afterwards, at home.
//
//   1. ask the first sources (bootstrap nodes) for their digests; take what is missing
//   2. ask further sources, relays drawn at random from what is now known, until `sources` have answered
//   3. missing descriptors are fetched in pieces of 16, dealt out over the sources that claim to have them
//
// A source that hides relays is made up for by the others; one that fails, lies or sends garbage costs itself only.

import type { DirectoryMessage } from '#wire/directory.ts'
import { MAX_PIECE } from '#wire/directory.ts'
import type { Directory } from './directory.ts'

export interface DirectorySource {
  readonly name: string
  /** Asks; rejects or gives `undefined` when the source fails. Bounded in time and size by the caller. */
  ask(request: DirectoryMessage, signal?: AbortSignal): Promise<DirectoryMessage | undefined>
}

export interface RefreshOptions {
  readonly directory: Directory
  readonly first: readonly DirectorySource[]
  /** Sources that are known once the first were asked. */
  readonly further: () => readonly DirectorySource[]
  /** How many sources should answer. */
  readonly sources: number
  readonly nowMs: () => number
  readonly random: (length: number) => Uint8Array
  readonly signal?: AbortSignal
}

/** What is said of a descriptor that is missing: the newest there is, and who has one. */
interface Claim {
  readonly sequence: number
  readonly sources: readonly DirectorySource[]
}

export interface RefreshReport {
  /** Sources that answered, and those that failed. */
  readonly answered: number
  readonly failed: number
  /** Descriptors accepted in this refresh. */
  readonly accepted: number
  /** Descriptors that a source claimed and nobody delivered soundly. */
  readonly missing: number
}

/** Refreshes `directory`; does not reject when sources fail. */
export async function refreshDirectory(options: RefreshOptions): Promise<RefreshReport> {
  const { directory, signal } = options
  const answered: DirectorySource[] = []
  const tried = new Set<string>()
  let failed = 0
  let accepted = 0
  /** Who claims to have what is missing. */
  const claims = new Map<string, Claim>()

  const digestOf = async (source: DirectorySource) => {
    tried.add(source.name)
    const digest = await source.ask({ kind: 'digestRequest' }, signal).catch(() => undefined)
    if (digest?.kind !== 'digest') {
      failed++
      return
    }
    answered.push(source)
    for (const entry of digest.entries) {
      if (!directory.lacks(entry)) continue
      const { sequence, sources } = claims.get(entry.id) ?? { sequence: 0, sources: [] }
      claims.set(entry.id, { sequence: Math.max(sequence, entry.sequence), sources: [...sources, source] })
    }
  }
  const fetchMissing = async () => {
    for (let round = 0; round < 3 && claims.size > 0; round++) {
      const pieces = deal(claims, round)
      await Promise.all(
        pieces.map(async ({ source, ids }) => {
          const piece = await source.ask({ kind: 'pieceRequest', ids }, signal).catch(() => undefined)
          if (piece?.kind !== 'piece') return
          for (const bytes of piece.descriptors) if (directory.offer(bytes, options.nowMs()) === 'accepted') accepted++
        }),
      )
      for (const [id, { sequence }] of claims) if (!directory.lacks({ id, sequence })) claims.delete(id)
    }
  }

  const first = shuffle(options.first, options.random).slice(0, options.sources)
  await Promise.all(first.map(digestOf))
  await fetchMissing()
  const wanted = options.sources - answered.length
  const further = shuffle(options.further(), options.random).filter(({ name }) => !tried.has(name))
  if (wanted > 0) await Promise.all(further.slice(0, wanted).map(digestOf))
  await fetchMissing()
  return { answered: answered.length, failed, accepted, missing: claims.size }
}

/** What a directory answers; `undefined` for a message that is no request. */
export function answerDirectory(
  directory: Directory,
  request: DirectoryMessage,
  now: number,
): DirectoryMessage | undefined {
  switch (request.kind) {
    case 'digestRequest':
      return { kind: 'digest', entries: directory.digest(now) }
    case 'pieceRequest':
      return { kind: 'piece', descriptors: request.ids.flatMap(id => directory.bytesOf(id) ?? []) }
    default:
      return undefined
  }
}

/** Deals the missing ids over those who claim them, another claimant in each round. */
function deal(claims: ReadonlyMap<string, Claim>, round: number): { source: DirectorySource; ids: string[] }[] {
  const bySource = new Map<DirectorySource, string[]>()
  let turn = round
  for (const [id, { sources }] of [...claims].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const source = sources[turn++ % sources.length]
    if (source !== undefined) bySource.set(source, [...(bySource.get(source) ?? []), id])
  }
  const pieces: { source: DirectorySource; ids: string[] }[] = []
  for (const [source, ids] of bySource) {
    for (let i = 0; i < ids.length; i += MAX_PIECE) pieces.push({ source, ids: ids.slice(i, i + MAX_PIECE) })
  }
  return pieces
}

function shuffle<T>(items: readonly T[], random: (length: number) => Uint8Array): T[] {
  return items
    .map(item => ({ item, key: Buffer.from(random(6)).readUIntBE(0, 6) }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item)
}
