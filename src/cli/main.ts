// The command line. Every command reads its flags here and does its work in commands/.

import { Command, CommanderError } from 'commander'
import { HopliteError } from '#api/errors.ts'
import { VERSION } from '#daemon/version.ts'
import { addEarningsCommands } from './earnings-commands.ts'
import { EXIT, exitCodeOf } from './exit-codes.ts'
import { addIssuerCommands } from './issuer-commands.ts'
import { printError } from './output.ts'
import { addWalletCommands } from './wallet-commands.ts'
import { wholeNumber } from './whole-number.ts'

const program = new Command('hoplite')
  .description('A VPN whose users cover each other')
  .version(VERSION, '--version')
  .exitOverride()
  .showSuggestionAfterError()

const addCommonOptions = (to: Command) =>
  to
    .option('--config <file>', 'configuration file (hoplite.toml)')
    .option('--state-dir <dir>', 'keys, state and control socket')
    .option('--json', 'one line of JSON')
const command = (name: string, description: string, isHidden = false) =>
  addCommonOptions(program.command(name, { hidden: isHidden }).description(description))

command('up', 'connect: start the daemon if none runs, and wait for a route')
  .option('--hops <n>', 'hops of a route, 1 to 5', wholeNumber(1, 5))
  .option('--proxy <address>', 'where the proxy listens')
  .option('--spend-limit <credits>', 'pay relays no more than this', wholeNumber(1, 1_000_000_000))
  .action(async options => (await import('./commands/up.ts')).up(options))
command('down', 'disconnect: stop the daemon').action(async options =>
  (await import('./commands/down.ts')).down(options),
)
command('status', 'show what the node is doing').action(async options =>
  (await import('./commands/status.ts')).showStatus(options),
)
command('relay', 'carry traffic for others, in the foreground')
  .option('--exit', 'also let traffic out to the internet')
  .action(async options => (await import('./commands/run.ts')).relay(options))
command('bootstrap', 'serve the directory, in the foreground').action(async options =>
  (await import('./commands/run.ts')).bootstrap(options),
)
command('daemon', 'run the client in the foreground', true)
  .option('--hops <n>', 'hops of a route, 1 to 5', wholeNumber(1, 5))
  .option('--proxy <address>', 'where the proxy listens')
  .option('--spend-limit <credits>', 'pay relays no more than this', wholeNumber(1, 1_000_000_000))
  .action(async options => (await import('./commands/run.ts')).daemon(options))
command('keygen', 'make the keys of a relay or bootstrap node')
  .option('--force', 'set existing keys aside')
  .action(async options => (await import('./commands/keygen.ts')).keygen(options))
command('doctor', 'say what this machine can and cannot do').action(async options =>
  (await import('./commands/doctor.ts')).doctor(options),
)
addEarningsCommands(command('earnings', 'show what this relay was paid'), addCommonOptions)
addIssuerCommands(command('issuer', 'issue and redeem credits, in the foreground'), addCommonOptions)
addWalletCommands(command('wallet', 'show what the wallet holds'), addCommonOptions)
program
  .command('demo')
  .description('run a whole network on this machine and fetch a page through it')
  .option('--port <n>', 'port of the proxy on 127.0.0.1', wholeNumber(0, 65_535), 1080)
  .option('--once', 'do one fetch and end')
  .option('--json', 'one line of JSON')
  .action(async options => (await import('./commands/demo.ts')).demo(options))

// `hoplite status | head -1` closes the pipe early: that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) =>
  process.exit(error.code === 'EPIPE' ? EXIT.done : EXIT.failed),
)

try {
  await program.parseAsync()
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? EXIT.done : EXIT.usage
  } else {
    printError(error, process.argv.includes('--json'))
    process.exitCode = error instanceof HopliteError ? exitCodeOf(error.code) : EXIT.internal
  }
}
