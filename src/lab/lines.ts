// A session as ssh has them: short lines over one TCP connection, each answered by an echo; and the same over UDP, which shows how long
// the way itself was silent, without TCP's patience.
//
//   node src/lab/lines.ts serve PORT
//   node src/lab/lines.ts talk HOST PORT SECONDS     prints {"lines","answered","silentMs","waySilentMs"} at its end
//   node src/lab/lines.ts talk HOST PORT SECONDS COMMAND …     the same, over the command's input and output in TCP's place

import { spawn } from 'node:child_process'
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
  const [host = '', port = '', seconds = '', command, ...rest] = words
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
  const session = command === undefined ? overTcp(host, Number(port)) : overCommand(command, rest)
  session.input.on('data', (data: Buffer) => {
    answered += data.length / LINE_BYTES
    hear('tcp')
  })
  const tell = (error?: string) => {
    const [silentMs, waySilentMs] = [Math.round(silence.tcp), Math.round(silence.udp)]
    process.stdout.write(`${JSON.stringify({ lines, answered, silentMs, waySilentMs, error })}\n`)
    process.exit(error === undefined ? 0 : 1)
  }
  for (const stream of [session.input, session.output]) stream.on('error', error => tell(error.message))
  const timer = setInterval(() => {
    const line = String(lines++)
      .padStart(LINE_BYTES - 1, '0')
      .concat('\n')
    session.output.write(line)
    datagrams.send(line, Number(port), host)
  }, EVERY_MS)
  setTimeout(() => {
    clearInterval(timer)
    setTimeout(tell, 1_000)
  }, Number(seconds) * 1_000)
}

interface Session {
  readonly input: NodeJS.ReadableStream
  readonly output: NodeJS.WritableStream
}

function overTcp(host: string, port: number): Session {
  const socket = connect({ host, port, noDelay: true })
  return { input: socket, output: socket }
}

function overCommand(command: string, words: readonly string[]): Session {
  const { stdin, stdout } = spawn(command, words, { stdio: ['pipe', 'pipe', 'inherit'] })
  return { input: stdout, output: stdin }
}
