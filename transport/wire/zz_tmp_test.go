package wire_test
import ("testing";"math/rand/v2";"edged.dev/edged/internal/kv";"edged.dev/edged/transport/wire")
func TestZZ(t *testing.T){
 for _, per := range []bool{false,true}{
  r:=rand.New(rand.NewPCG(1,2)); codec,_:=wire.NewCodec()
  h:=wire.Hello{Session:1}
  nodes:=[]kv.NodeID{kv.NodeID(r.Uint64()),kv.NodeID(r.Uint64()),kv.NodeID(r.Uint64())}
  bits:=[]uint32{r.Uint32(),r.Uint32(),r.Uint32()}
  for p:=range 256 { var spans []kv.Span
   for i,n:=range nodes { b:=bits[i]; if per {b=r.Uint32()}
     spans=append(spans,kv.Span{Actor:kv.Actor{Node:n,Boot:1795561354+uint32(i),Rand:b},Base:uint64(130+r.IntN(30))})}
   h.Copies=append(h.Copies,wire.CopyClock{Partition:kv.Partition(p),Trust:kv.Whole,Clock:kv.ClockOf(spans...),Actor:spans[0].Actor})
   h.Wants=append(h.Wants,kv.Partition(p)) }
  t.Log(per,len(h.Append(nil,codec)))
 }
}
