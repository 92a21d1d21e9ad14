#!/usr/bin/env bash
# From real text to a trained GPT-2 to generated text, in under ten minutes on two cores.
#
# usage: scripts/demo.sh                      the six novels of Jane Austen
#        DEMO_TEXT=path scripts/demo.sh       your own .txt or .jsonl file, or a folder of them
#
# Everything it makes lies in build/demo; each call trains a new run there.
set -euo pipefail
cd "$(dirname "$0")/.."

demo=build/demo
gpt2=build/release/gpt2
novels_package=r-cran-janeaustenr
vocabulary=4096

step=0
say() { printf 'demo: %s\n' "$*"; }
headline() {
  step=$((step + 1))
  printf '\n== %d/6 %s (%d s so far)\n' "$step" "$*" "$SECONDS"
}
give_up() {
  printf 'demo: %s\n' "$*" >&2
  exit 1
}

# The novels as .txt files in $demo/text, from Debian's package of them (R is not needed).
fetch_novels() {
  local download=$demo/download
  rm -rf "$download"
  mkdir -p "$download"
  say "downloading the Debian package $novels_package"
  # APT's own download user cannot enter every folder; it then warns and downloads all the same.
  if ! (cd "$download" && apt-get -qq download "$novels_package" 2>apt.log) &&
    ! (refresh_package_lists && cd "$download" && apt-get -qq download "$novels_package" 2>apt.log)
  then
    tail -n 3 "$download/apt.log" >&2
    give_up "cannot download $novels_package (is there a network?); to use your own text instead:" \
      "DEMO_TEXT=path scripts/demo.sh"
  fi
  dpkg-deb -x "$download"/*.deb "$download/unpacked"
  python3 scripts/austen.py \
    "$download/unpacked/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb" "$demo/text.new"
  rm -rf "$demo/text" "$download"
  mv "$demo/text.new" "$demo/text"
}

# A fresh image has no package lists; where we may not fetch them, the download's message tells.
refresh_package_lists() {
  if [[ $(id -u) -eq 0 ]]; then
    apt-get -qq update
  elif command -v sudo >/dev/null; then
    sudo apt-get -qq update
  fi
}

headline "setting up"
scripts/setup.sh

headline "building (about two minutes the first time)"
cmake --preset release >/dev/null
cmake --build --preset release --target gpt2
mkdir -p "$demo"

headline "getting text"
if [[ -n ${DEMO_TEXT:-} ]]; then
  [[ -e $DEMO_TEXT ]] || give_up "DEMO_TEXT=$DEMO_TEXT: no such file or folder"
  text=$DEMO_TEXT
  data=$demo/data-own
  prompts=("" "" "")
  say "your own: $text"
else
  text=$demo/text
  data=$demo/data
  prompts=("It was" "\"My dear" "She had")
  if [[ -d $text ]]; then
    say "the novels are in $text already"
  else
    fetch_novels
  fi
fi

headline "learning a vocabulary and preparing token shards"
# What was made from another text, from this one before it changed, or by an older demo is made anew.
stamp=$(find -L "$text" -type f -printf '%p %s %T@\n' | LC_ALL=C sort | cksum)
stamp="$stamp, $vocabulary entries"
if [[ "$(cat "$data.stamp" 2>/dev/null)" != "$stamp" ]]; then
  rm -rf "$data" "$data.tokenizer" "$data.stamp"
  # GPT-2's 50,257 entries are too many for one million tokens: most would hardly be seen, and three
  # quarters of the time would go into their logits.
  "$gpt2" train-tokenizer "$text" --vocab-size "$vocabulary" --out "$data.tokenizer"
fi
# A fiftieth of the text is kept for validation: of one million tokens a hundredth is too few.
"$gpt2" prepare "$text" --out "$data" --tokenizer "$data.tokenizer" --val-fraction 0.02
printf '%s\n' "$stamp" >"$data.stamp"

number=1
while [[ -e $demo/run-$number ]]; do number=$((number + 1)); done
run=$demo/run-$number

headline "training for at most four minutes, in $run"
# Sized for two cores: a small model, since four million characters teach a large one nothing more.
# Muon needs a third of AdamW's tokens here (docs/performance.md); its own time is the same for steps
# of any size, so that they are not the smallest. A slower machine does fewer.
"$gpt2" train --data "$data" --out "$run" --max-time 4m \
  --layers 4 --heads 4 --channels 256 --context 128 \
  --micro-batch 16 --batch-tokens 4096 --steps 600 --optimizer muon --muon-lr 0.01 \
  --lr 4e-3 --warmup-steps 20 --val-every 50 --sample-every 200 --checkpoint-every 0

headline "generating"
sample=0
for prompt in "${prompts[@]}"; do
  sample=$((sample + 1))
  printf -- '---- sample %d\n' "$sample"
  "$gpt2" generate --quiet --model "$run/model" ${prompt:+--prompt "$prompt"} --max-tokens 80 \
    --temperature 0.8 --top-k 50 --seed "$sample"
  printf '\n'
done

python3 - "$run/log.jsonl" <<'EOF'
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
losses = [line["loss"] for line in lines if "loss" in line]
validation = [line["val_loss"] for line in lines if line.get("val_loss") is not None]
print(f"\ndemo: first loss {losses[0]:.2f}, last loss {losses[-1]:.2f} after {len(losses)} steps"
      + (f"; validation loss {validation[-1]:.2f}" if validation else ""))
EOF
cat <<EOF
demo: the loss as a picture: $run/loss.svg; all about the run: $run/report.html
demo: all of it took $((SECONDS / 60)) min $((SECONDS % 60)) s

To go on from here:
  $gpt2 generate --model $run/model --prompt "Elizabeth" --num-samples 3
  $gpt2 info $run
  $gpt2 train --data $data --init $run/model --out $demo/longer --epochs 3 --batch-tokens 4096
  DEMO_TEXT=path scripts/demo.sh
EOF
