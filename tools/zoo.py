"""List the models of the package, show one, fetch its weights, say where they are kept.

Examples:
    python tools/zoo.py --task video
    python tools/zoo.py show isda_r50_3x_coco
    python tools/zoo.py fetch https://example.org/isda-1a2b3c4d.pth
"""

import argparse

from isda_suite.engine.exit_codes import leave, run_tool


def _add_choices(parser: argparse.ArgumentParser) -> None:
    # Of the tool and of `list`; a default of the latter would undo what stands before it.
    absent = argparse.SUPPRESS
    parser.add_argument('--task', default=absent, help='instance, video or semantic')
    parser.add_argument('--method', default=absent, help='isda, idip, isdnet, …')
    parser.add_argument('--json', action='store_true', default=absent, help='as JSON')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _add_choices(parser)
    actions = parser.add_subparsers(
        dest='action', metavar='{list,show,fetch,path}', help='what to do:'
    )
    _add_choices(actions.add_parser('list', help='one line a model (default)'))
    show = actions.add_parser('show', help='everything known of a model')
    show.add_argument('name', metavar='NAME', help='name of a model')
    show.add_argument('--json', action='store_true', default=argparse.SUPPRESS, help='as JSON')
    fetch = actions.add_parser('fetch', help='fetch weights, check their hash, print their path')
    fetch.add_argument('name', metavar='NAME', help='name of a model, or an address https://…')
    fetch.add_argument('--sha256', help='hash that the file must have')
    actions.add_parser('path', help='print the folder that keeps fetched weights')
    parser.set_defaults(action='list', task=None, method=None, json=False, name=None, sha256=None)
    return parser.parse_args()


def main() -> None:
    """Do what the command line asks for."""
    args = parse_args()
    from isda_suite.apis import zoo, zoo_tables

    if args.action == 'list':
        models = zoo.list_models(args.task, args.method)
        print(zoo_tables.as_json(models) if args.json else zoo_tables.table(models))
    elif args.action == 'show':
        model = zoo.find_model(args.name)
        print(zoo_tables.as_json(model) if args.json else zoo_tables.describe(model))
    elif args.action == 'fetch':
        print(zoo.resolve_weights(args.name, args.sha256))
    else:
        print(zoo.cache_folder())


if __name__ == '__main__':
    leave(run_tool(main))
