"""What MkDocs does to the pages, so that the same files read well on GitHub and on the site."""

import re
from pathlib import Path
from posixpath import normpath, relpath

ROOT = Path(__file__).parents[1]
OUTSIDE = re.compile(r"\]\((\.\./[^)\s#]+)(#[^)\s]*)?\)")
REPOSITORY = "https://github.com/maml-jax/maml-jax"


def on_page_markdown(markdown, *, page, config, files):
    """Links to examples lead to their pages, and to other files of the repository to GitHub."""
    del config, files
    folder = Path(page.file.src_uri).parent

    def absolute(match):
        path = normpath(str(Path("docs") / folder / match[1]))
        if path.startswith("docs/"):
            return match[0]
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"{page.file.src_uri} links to {match[1]}, which is not there")
        if path.startswith("examples/") and folder.name != "examples":
            example = relpath(path.replace(".py", ".md"), folder)
            return f"]({example}{match[2] or ''})"
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"]({REPOSITORY}/{kind}/main/{path}{match[2] or ''})"

    return OUTSIDE.sub(absolute, markdown)
