"""What MkDocs does to the pages, so that the same files read well on GitHub and on the site."""

import re
from pathlib import Path
from posixpath import normpath

ROOT = Path(__file__).parents[1]
OUTSIDE = re.compile(r"\]\((\.\./[^)\s#]+)(#[^)\s]*)?\)")
REPOSITORY = "https://github.com/maml-jax/maml-jax"


def on_page_markdown(markdown, *, page, config, files):
    """Links to files of the repository that are not pages become links to GitHub."""
    del config, files
    folder = Path(page.file.src_uri).parent

    def absolute(match):
        path = normpath(str(Path("docs") / folder / match[1]))
        if path.startswith("docs/"):
            return match[0]
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"{page.file.src_uri} links to {match[1]}, which is not there")
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"]({REPOSITORY}/{kind}/main/{path}{match[2] or ''})"

    return OUTSIDE.sub(absolute, markdown)
