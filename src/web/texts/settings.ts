// The sentences of the settings.

export const settings = {
  intro: 'Everything in the configuration file.',
  file: (file: string) => `Kept in ${file}`,
  noFile: (file: string) => `There is no file yet; saving makes ${file}`,
  readOnly: 'Nothing can be changed here',
  sections: {
    network: 'Network',
    client: 'Your routes',
    relay: 'As a relay',
    exit: 'As an exit',
    peer: 'As a peer',
    credit: 'Credits',
    issuer: 'As an issuer',
    meet: 'Your devices',
    api: 'Dashboard',
    metrics: 'Metrics',
    engine: 'Packets',
    log: 'Log',
    lab: 'Laboratory',
  } as Record<string, string>,
  set: (count: number) => `${count} set`,
  default: (value: string) => `Default: ${value}`,
  empty: 'empty',
  reset: 'Back to the default',
  lines: 'One on each line.',
  json: 'JSON.',
  wrongJson: 'this is no JSON',
  changed: (count: number) => (count === 1 ? '1 change' : `${count} changes`),
  wrong: (count: number) => (count === 1 ? '1 thing to mend' : `${count} things to mend`),
  save: 'Save',
  discard: 'Discard',
  saved: (later: readonly string[]) =>
    later.length === 0
      ? 'Saved. It holds from now on.'
      : `Saved. What holds when the daemon starts again (hoplite down, then hoplite up): ${later.join(', ')}.`,
}
