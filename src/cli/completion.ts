/**
 * `bulla completion bash|zsh|fish`: a script for the shell, made from the tree of commands, so it knows no command that
 * is not there. It asks the server nothing: completing a path must not be an access.
 */
import { Argument, type Command } from 'commander';
import type { Cli } from './cli.ts';
import { print } from './io.ts';

const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

export function addCompletionCommand(root: Command, cli: Cli): void {
  root
    .command('completion')
    .description('print a script that completes commands and options in your shell')
    .addArgument(new Argument('<shell>').choices(SHELLS))
    .addHelpText(
      'after',
      `
  bash: bulla completion bash > ~/.local/share/bash-completion/completions/bulla
  zsh:  bulla completion zsh > "\${fpath[1]}/_bulla"
  fish: bulla completion fish > ~/.config/fish/completions/bulla.fish`,
    )
    .action((shell: Shell) => print(cli.io.stdout, SCRIPTS[shell](nodesOf(root))));
}

type Word = { readonly word: string; readonly about: string };

/** A command by the words that lead to it, `secret get`; the root is the empty text. */
type Node = { readonly at: string; readonly commands: readonly Word[]; readonly options: readonly Word[] };

function nodesOf(root: Command): Node[] {
  const globals = optionsOf(root);
  const visit = (command: Command, at: string): Node[] => {
    const commands = command.commands.map((child) => ({ word: child.name(), about: child.description() }));
    const own = command === root ? [] : optionsOf(command);
    const arguments_ = command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []);
    const words = [...commands, ...arguments_.map((word) => ({ word, about: '' }))];
    const children = command.commands.flatMap((child) =>
      visit(child, at === '' ? child.name() : `${at} ${child.name()}`),
    );
    return [
      { at, commands: words, options: [...own, ...globals, { word: '--help', about: 'show help' }] },
      ...children,
    ];
  };
  return visit(root, '');
}

function optionsOf(command: Command): Word[] {
  return command.options.map(({ long, description }) => ({ word: long ?? '', about: description }));
}

const SCRIPTS: Readonly<Record<Shell, (nodes: readonly Node[]) => string>> = {
  bash: (nodes) => `# bash completion for bulla
_bulla() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" at="" words="" word i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="\${COMP_WORDS[i]}"
    [[ $word == -- ]] && return
    case "\${at:+$at }$word" in
      ${nodes
        .slice(1)
        .map(({ at }) => `"${at}"`)
        .join(' | ')}) at="\${at:+$at }$word" ;;
    esac
  done
  case "$at" in
${nodes.map(({ at, commands, options }) => `    "${at}") words="${wordsOf(commands)}"; [[ $cur == -* ]] && words="${wordsOf(options)}" ;;`).join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _bulla bulla
`,
  zsh: (nodes) => `#compdef bulla
_bulla() {
  local at="" word
  local -a commands options
  for word in "\${(@)words[2,CURRENT-1]}"; do
    [[ $word == -- ]] && { _normal; return }
    case "\${at:+$at }$word" in
      (${nodes
        .slice(1)
        .map(({ at }) => `"${at}"`)
        .join('|')}) at="\${at:+$at }$word" ;;
    esac
  done
  case "$at" in
${nodes.map(({ at, commands, options }) => `    ("${at}") commands=(${described(commands)}); options=(${described(options)}) ;;`).join('\n')}
  esac
  if [[ $PREFIX == -* ]]; then _describe option options
  elif (( $#commands )); then _describe command commands
  else _files
  fi
}
compdef _bulla bulla
`,
  fish: (nodes) => `# fish completion for bulla
function __bulla_at
  set -l at
  for word in (commandline -opc)[2..]
    switch (string join ' ' $at $word)
      case ${nodes
        .slice(1)
        .map(({ at }) => `'${at}'`)
        .join(' ')}
        set at $at $word
    end
  end
  string join ' ' $at
end
${nodes.flatMap(({ at, commands, options }) => [...commands.map((word) => fishLine(at, word)), ...options.map((word) => fishLine(at, word))]).join('\n')}
`,
};

function wordsOf(words: readonly Word[]): string {
  return words.map(({ word }) => word).join(' ');
}

/** `'word:what it is'`, quoted for zsh. */
function described(words: readonly Word[]): string {
  return words.map(({ word, about }) => single(about === '' ? word : `${word}:${about}`)).join(' ');
}

function fishLine(at: string, { word, about }: Word): string {
  const what = word.startsWith('--') ? `-l ${word.slice(2)}` : `-f -a ${word}`;
  const description = about.replace(/[\\']/g, '\\$&');
  return `complete -c bulla -n "test (__bulla_at) = '${at}'" ${what}${about === '' ? '' : ` -d '${description}'`}`;
}

function single(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
