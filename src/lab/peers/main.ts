import { measure, stopLabsOnSignal } from './run.ts'
import { nebula } from './subjects/nebula.ts'
import { openvpn } from './subjects/openvpn.ts'
import { tor } from './subjects/tor.ts'
import { hopliteSocks } from './subjects/hoplite-socks.ts'
import { hopliteTun } from './subjects/hoplite-tun.ts'
stopLabsOnSignal()
for (const s of [nebula, openvpn, tor, hopliteSocks(1), hopliteSocks(3), hopliteTun(1)].filter(s => !process.argv[2] || s.name === process.argv[2]))
console.log(JSON.stringify(await measure(s, 2, console.log)))
process.exit(0)
