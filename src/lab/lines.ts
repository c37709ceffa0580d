// A session like ssh's: short lines over one TCP connection, each answered by an echo; and the same over UDP, which shows how long
// the way itself was silent, without TCP's patience.
//
//   node src/lab/lines.ts serve PORT
//   node src/lab/lines.ts talk HOST PORT SECONDS     prints {"lines","answered","silentMs","waySilentMs"} at its end

import { createSocket } from 'node:dgram'
import { connect, createServer } from 'node:net'

const EVERY_MS = 50
const LINE_BYTES = 8
const [role = '', ...words] = process.argv.slice(2)

if (role === 'serve') {
  const port = Number(words[0])
  const echo = createSocket('udp6')
  echo.on('message', (line, from) => echo.send(line, from.port, from.address))
  echo.bind(port)
  createServer(socket => {
    socket.setNoDelay(true)
    socket.on('error', () => socket.destroy())
    socket.pipe(socket)
  }).listen(port, '::', () => process.stdout.write('ready\n'))
} else {
  const [host = '', port = '', seconds = ''] = words
  const started = performance.now()
  const silence = { tcp: 0, udp: 0 }
  const heard = { tcp: started, udp: started }
  const hear = (kind: 'tcp' | 'udp') => {
    const now = performance.now()
    silence[kind] = Math.max(silence[kind], now - heard[kind])
    heard[kind] = now
  }
  let lines = 0
  let answered = 0
  const datagrams = createSocket('udp6')
  datagrams.on('message', () => hear('udp'))
  const socket = connect({ host, port: Number(port), noDelay: true })
  socket.on('data', data => {
    answered += data.length / LINE_BYTES
    hear('tcp')
  })
  const tell = (error?: string) => {
    const [silentMs, waySilentMs] = [Math.round(silence.tcp), Math.round(silence.udp)]
    process.stdout.write(`${JSON.stringify({ lines, answered, silentMs, waySilentMs, error })}\n`)
    process.exit(error === undefined ? 0 : 1)
  }
  socket.on('error', error => tell(error.message))
  const timer = setInterval(() => {
    const line = String(lines++)
      .padStart(LINE_BYTES - 1, '0')
      .concat('\n')
    socket.write(line)
    datagrams.send(line, Number(port), host)
  }, EVERY_MS)
  setTimeout(() => {
    clearInterval(timer)
    setTimeout(tell, 1_000)
  }, Number(seconds) * 1_000)
}
